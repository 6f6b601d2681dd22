"""TACRED: 106,264 sentences of news and the web with two names in each, and how they are related: mostly not at all."""

import json
from collections import Counter
from pathlib import Path
from typing import Literal

import torch

from runner import UserError, card
from runner.components._words import Words
from runner.components.data._files import absent
from runner.core.data import Data, Split

CARD = card(
    source="Zhang et al. 2017, Position-aware Attention and Supervised Data Improve Slot Filling; masks, vocabulary, longest sentence, unknown words, "
    "tags and positions as yuhaozhang/tacred-relation has them, data/loader.py, prepare_vocab.py, utils/constant.py; heads: "
    "qipeng/gcn-over-pruned-trees, data/loader.py; revised labels: gstoica27/Re-TACRED, apply_patch.py",
    tasks=("classification",),
    tokens=True,
)
FILES = {"train": "train.json", "test": "test.json", "val": "dev.json"}
NEGATIVE, UNKNOWN = "no_relation", 1  # 0 is padding
TAGS = {  # Penn Treebank's parts of speech and CoreNLP's entity classes
    "stanford_pos": "# $ '' , -LRB- -RRB- . : `` CC CD DT EX FW IN JJ JJR JJS LS MD NN NNP NNPS NNS PDT POS PRP PRP$ RB RBR RBS RP SYM TO UH VB VBD VBG "
    "VBN VBP VBZ WDT WP WP$ WRB",
    "stanford_ner": "O DATE DURATION LOCATION MISC MONEY NUMBER ORDINAL ORGANIZATION PERCENT PERSON SET TIME",
}
TAGS = {field: {tag: UNKNOWN + 1 + k for k, tag in enumerate(tags.split())} for field, tags in TAGS.items()}
HOW = "set data.root to the folder of train.json, dev.json and test.json, which the Linguistic Data Consortium licenses (LDC2018T24)"
REVISED = "put Re-TACRED's patches there (Re-TACRED/*_id2label.json of gstoica27/Re-TACRED on GitHub), or set data.revised=false"


def read(file: Path, kind: type, how: str):
    """What a JSON file holds. Raises UserError."""
    if not file.is_file():
        raise absent("TACRED", [file], how)
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {error}") from error
    if not isinstance(found, kind) or not found:
        raise UserError(f"{file} is no JSON {'array of samples' if kind is list else 'object of labels by id'}, or has none")
    return found


def masked(sample, file: Path) -> list[str]:
    """The words of a sample, each of its subject and its object replaced by SUBJ- or OBJ- and the type of that. Raises UserError."""
    try:
        if not isinstance(words := sample["token"], list) or not isinstance(sample["relation"], str):
            raise TypeError("token must be a list of words and relation a name")
        words = [str(word) for word in words]
        for role in ("subj", "obj"):
            first, last = sample[f"{role}_start"], sample[f"{role}_end"]
            if not 0 <= first <= last < len(words):
                raise ValueError(f"{role}_start={first} and {role}_end={last} are no place among {len(words)} words")
            words[first : last + 1] = [f"{role.upper()}-{sample[f'{role}_type']}"] * (last + 1 - first)
    except KeyError as error:
        raise UserError(f"{file} has a sample without {error}") from error
    except (TypeError, ValueError) as error:
        raise UserError(f"{file} has a sample that is wrong: {error}") from error
    return words


def numbered(row, ids: dict[str, int], length: int) -> list[int]:
    """The ids of the first words or tags, padded."""
    return [ids.get(name, UNKNOWN) for name in row[:length]] + [0] * (length - len(row))


def features(sample, file: Path, length: int) -> list[list[int]]:
    """Parts of speech, entity classes, and the positions of the words relative to the subject and to the object. Raises UserError."""
    found, words = [], len(sample["token"])
    for field, ids in TAGS.items():
        tags = sample.get(field)
        if not isinstance(tags, list) or len(tags) != words or not all(isinstance(tag, str) for tag in tags):
            raise UserError(f"{file} has a sample whose {field} is no list of {words} tags, one a word, as data.inputs=all and tree need")
        found.append(numbered(tags, ids, length))
    for first, last in ((sample[f"{role}_start"], sample[f"{role}_end"]) for role in ("subj", "obj")):
        away = [min(k - first, 0) + max(k - last, 0) for k in range(min(words, length))]
        found.append([length + max(k, 1 - length) for k in away] + [0] * (length - words))
    return found


def heads(sample, file: Path, length: int) -> list[int]:
    """The position of the word that each word depends on, counted from 1; 0 for the root of the tree and where that word is cut off. Raises UserError."""
    words = len(sample["token"])
    try:
        found = [int(head) for head in sample["stanford_head"]]
    except (KeyError, TypeError, ValueError):
        found = []
    if len(found) != words or not all(0 <= head <= words for head in found):
        raise UserError(f"{file} has a sample whose stanford_head is no list of {words} numbers in [0, {words}], one a word, as data.inputs=tree needs")
    return [head if head <= length else 0 for head in found[:length]] + [0] * (length - words)


def build(
    root: str, inputs: Literal["words", "all", "tree"] = "words", length: int = 100, vocabulary: int = 60000, min_count: int = 2, word_dropout: float = 0.0,
    revised: bool = False,
):  # fmt: skip
    """Sentences as token ids, 0 after the end and 1 for unknown words, subject and object masked by their types; ROOT/dev.json is for validation.

    With inputs=words they are (n, T), with inputs=all (n, 5, T), each row padded with 0: the ids of the words; of their parts of speech (below 47) and
    entity classes (below 15), 1 for unknown ones, those of masked words as they are; and where each word is relative to subject and object: T within
    it, T - k and T + k for the k-th word before and after it. With inputs=tree they are (n, 6, T), the last row the heads of the words in the dependency
    tree: 1 for the first word, 0 at the root and where the head is cut off. Info.vocabulary is of the words.

    Classes are the relations in alphabetical order and, last, no_relation. The ids are those of the most frequent tokens in training, masks included.
    A revised dev.json or test.json (as TACRED Revisited has them) may stand in place of the first ones: the format is the same.

    Args:
        root: folder of train.json, dev.json and test.json.
        inputs: words alone, all that the authors' LSTM is given, or all and the tree, for graph convolutions over it.
        length: >= 1; tokens of a sentence; what is longer is cut off.
        vocabulary: >= 2; token ids at most, those of padding and of unknown words included.
        min_count: >= 1; occurrences in training for a token to have an id.
        word_dropout: in [0, 1); share of the training tokens that are made unknown, drawn anew each time.
        revised: ROOT/Re-TACRED/train_id2label.json says what the right labels of training are, for measurement and for methods that ask for clean
            samples; those of samples that it lacks, or for which it has a relation that TACRED has not, are as they are.
    """
    folder = Path(root).expanduser()
    samples = {split: read(folder / name, list, HOW) for split, name in FILES.items()}
    words = {split: [masked(s, folder / FILES[split]) for s in rows] for split, rows in samples.items()}
    counts = Counter(word for row in words["train"] for word in row).most_common(vocabulary - 2)
    ids = {word: UNKNOWN + 1 + k for k, (word, count) in enumerate(counts) if count >= min_count}
    relations = sorted({s["relation"] for s in samples["train"]} - {NEGATIVE})
    number = {name: k for k, name in enumerate([*relations, NEGATIVE])}
    splits = {}
    for split, rows in samples.items():
        if odd := {s["relation"] for s in rows} - set(number):
            raise UserError(f"{folder / FILES[split]} has a relation that training has not: {min(odd)}")
        x = [numbered(row, ids, length) for row in words[split]]
        if inputs != "words":
            x = [[row, *features(s, folder / FILES[split], length)] for row, s in zip(x, rows, strict=True)]
        if inputs == "tree":
            x = [[*row, heads(s, folder / FILES[split], length)] for row, s in zip(x, rows, strict=True)]
        splits[split] = Split(torch.tensor(x).float(), torch.tensor([number[s["relation"]] for s in rows]))
    train = splits["train"]
    if revised:
        right = read(patch := folder / "Re-TACRED" / "train_id2label.json", dict, REVISED)
        known = [right.get(str(s.get("id"))) for s in samples["train"]]
        if not any(known):
            raise UserError(f"{patch} has none of the samples in {folder / FILES['train']}")
        train.clean = torch.tensor([number.get(str(name), y) for name, y in zip(known, train.y.tolist(), strict=True)])
    if word_dropout:
        lost = lambda x, generator: torch.rand(x.shape, generator=generator, device=generator.device).to(x.device) < word_dropout
        drop = lambda x, generator: torch.where(lost(x, generator) & (x > 0), UNKNOWN, x)
        train.augment = drop if inputs == "words" else lambda x, generator: torch.cat([drop(x[:, :1], generator), x[:, 1:]], 1)
    spelled = ("", "", *ids)  # padding, unknown words and the others
    return Data(Words("classification", tuple(train.x.shape[1:]), len(number), vocabulary=len(spelled), words=spelled), **splits)
