"""Notes of one's own, one JSON object a line: their sentences, and what headings or rules, and annotators, say of each."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from runner import UserError, card
from runner.components.data._files import absent
from runner.components.data._tables import subset
from runner.core.data import Data, Info, Split

CARD = card(
    source="a format of our own, for what Poddar, Dandala & Devarakonda 2019 (1906.11930) and Kwon, Yang & Yu 2022 (2211.14539) had of notes that are private",
    tasks=("classification", "language"),
)
HOW = 'data.root must be a folder of train.jsonl and test.jsonl, each line a note: {"sentences": ["..."], "headings": ["plan"], "truth": ["other"]}'
OTHER = 2  # ids 0 and 1 are padding and words that are not in the vocabulary


class Sentence(NamedTuple):
    words: list[str]
    headings: int  # a class, or -1 where nobody says
    truth: int
    target: bool


def parse(line: bytes, classes: list[str]) -> list[Sentence]:
    """The sentences of a note that have words. Raises ValueError."""
    note = json.loads(line)
    sentences = note.get("sentences") if isinstance(note, dict) else None
    if not isinstance(sentences, list) or not all(isinstance(s, str) for s in sentences):
        raise ValueError("no object with 'sentences', a list of strings")
    if not isinstance(target := note.get("target", False), bool):
        raise ValueError("'target' must be true or false")
    said = []
    for key in ("headings", "truth"):
        names = note.get(key)
        names = [None] * len(sentences) if names is None else names
        if not isinstance(names, list) or len(names) != len(sentences):
            raise ValueError(f"'{key}' must be a list with one entry for each of the {len(sentences)} sentences")
        if odd := [n for n in names if n is not None and n not in classes]:
            raise ValueError(f"'{key}' has {json.dumps(odd[0])}, where data.classes allows {', '.join(classes)}, or null")
        said.append([-1 if n is None else classes.index(n) for n in names])
    found = [Sentence(re.findall(r"\w+|[^\w\s]", s.lower()), h, t, target) for s, h, t in zip(sentences, *said, strict=True)]
    return [s for s in found if s.words]


def read(file: Path, classes: list[str]) -> list[list[Sentence]]:
    """The notes of a file that have words. Raises UserError."""
    if not file.is_file():
        raise absent("the file of notes", [file], HOW)
    notes = []
    for number, line in enumerate(file.read_bytes().split(b"\n"), 1):
        try:
            notes += [parse(line, classes)] if line.strip() else []
        except ValueError as error:
            raise UserError(f"{file}, line {number}: {error}") from error
    return [note for note in notes if note]


def chosen(notes: list[list[Sentence]], annotated: int | None, split: int) -> list[list[Sentence]]:
    """Those of the source hospital, then so many annotated ones of the target."""
    few = [note for note in notes if note[0].target and any(s.truth >= 0 for s in note)]
    return [note for note in notes if not note[0].target] + [few[k] for k in subset(torch.arange(len(few)), annotated, split, False, "annotated")]


def numbered(sentences: list[Sentence], size: int, least: int) -> dict[str, int]:
    """Word -> id."""
    counts = Counter(w for s in sentences for w in s.words)
    often = sorted((w for w, n in counts.items() if n >= least), key=lambda w: (-counts[w], w))
    return {w: k for k, w in enumerate(often[: size - OTHER], OTHER)}


def windows(x: Tensor, known: Tensor, length: int, what: str) -> tuple[Tensor, Tensor]:
    """The words (n, length) of each hospital, cut side by side, and what is known of them (n, length, columns). Raises UserError."""
    parts = []
    for target in known[:, -1].unique():
        rows = torch.nonzero(known[:, -1] == target)[:, 0]
        if len(rows) < length:
            raise UserError(f"{what}: {len(rows)} words of the {'target' if target else 'source'} hospital are less than one window of data.length={length}")
        parts.append(rows[: len(rows) // length * length].view(-1, length))
    rows = torch.cat(parts)
    return x[rows], known[rows]


def build(
    root: str, view: Literal["sentences", "words"] = "sentences", classes: list[str] = ("plan", "other"), length: int = 100, vocabulary: int = 20_000,
    min_count: int = 2, labels: Literal["headings", "truth"] = "headings", test_labels: Literal["headings", "truth"] = "truth",
    annotated: int | None = None, test: Literal["source", "target"] | None = None, split: int = 0,
):  # fmt: skip
    """ROOT/train.jsonl and ROOT/test.jsonl, UTF-8, each line a note, {"sentences": [...], "headings": [...], "truth": [...], "target": false}.

    `sentences` are strings; `headings` has of each the class that its heading, or a rule, gives it, `truth` that of annotators; null where nobody
    says, and the whole key may be left out. `target` says that a note is of the hospital to transfer to, false if left out: to train on, its labels
    are always `truth`. Sentences without the label that is asked for, or without words, are left out.

    Words are lower-cased runs of letters and digits, and each other sign by itself. Ids are given to the words of the sentences trained on: from 2, the
    most frequent first, equally frequent ones by alphabet; 0 is padding, 1 any other word. side["target"] of the training set says which hospital it is,
    side["rules"] of the test what headings say, where they say it of all; `clean` is the truth, where headings are trained on and all have it.

    Args:
        root: folder of train.jsonl and test.jsonl.
        view: sentences to classify, x (n, length), 0 after the end, or words to tag with the class of their sentence, x and y (n, length): the notes
            of each hospital one after another, in windows side by side; the rest at the end, less than a window, is left out.
        classes: names, as the files have them; for eval=positive_f1 the catch-all class is the last.
        length: >= 1; words of a sentence, the rest of which is cut off, or of a window.
        vocabulary: >= 3; ids at most, padding and other words included.
        min_count: >= 1; times that a word of the vocabulary occurs in training.
        labels: of the notes to train on, but for those of the target hospital.
        test_labels: of the test.
        annotated: >= 0; train on so many of the target hospital's notes that have a truth, drawn; nested in those of any larger number; all if not given.
        test: the hospital of the test; both if not given.
        split: >= 0; which draw of annotated notes.
    """
    splits, ids = [], {}
    for name, kind in (("train", labels), ("test", test_labels)):
        file = Path(root).expanduser() / f"{name}.jsonl"
        notes = read(file, list(classes))
        if name == "train":
            notes = chosen(notes, annotated, split)
        elif test:
            notes = [note for note in notes if note[0].target == (test == "target")]
        said = [(s, s.truth if s.target and name == "train" else getattr(s, kind)) for note in notes for s in note]
        said = [(s, y) for s, y in said if y >= 0]
        if not said:
            raise UserError(f"{file} has no sentence labelled by {kind}" + (f", of the {test} hospital" if test and name == "test" else ""))
        ids = numbered([s for s, _ in said], vocabulary, min_count) if name == "train" else ids
        x = [torch.tensor([ids.get(w, 1) for w in s.words]) for s, _ in said]
        known = torch.tensor([[y, s.headings, s.truth, s.target] for s, y in said])
        if view == "sentences":
            x = pad_sequence([torch.zeros(length), *(v[:length] for v in x)], True)[1:]  # the first one makes them all of this length
        else:
            x, known = windows(torch.cat(x), known.repeat_interleave(torch.tensor([len(v) for v in x]), 0), length, str(file))
        y, headings, truth, target = known.unbind(-1)
        splits.append(Split(x, y))
        if kind == "headings" and (truth >= 0).all():
            splits[-1].clean = truth
        if name == "train":
            splits[-1].side["target"] = target.view(len(x), -1)[:, 0].bool()
        elif (headings >= 0).all():
            splits[-1].side["rules"] = headings
    if view == "sentences":
        return Data(Info("classification", (length,), len(classes), vocabulary=len(ids) + OTHER), *splits)
    return Data(Info("language", (length,), max(len(ids) + OTHER, len(classes))), *splits)
