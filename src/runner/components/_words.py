"""The words behind token ids, and vectors that were learned for them elsewhere."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from runner import UserError
from runner.components._learned import bring
from runner.core.data import Info


@dataclass(frozen=True)
class Words(Info):
    """What is known of data of token ids, and the word of each id from 0 on: empty, or a name in brackets, for padding and for unknown words."""

    words: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Spelled(Words):
    """And the text that token ids stand for, without marks such as the end of a text."""

    spell: Callable[[list[int]], str] | None = field(default=None, repr=False, compare=False)


def start(table: torch.nn.Embedding, path: str, info: Info, key: str) -> None:
    """Give words the vectors that a text file has for them; others keep theirs. Lines of another length, as of tokens with spaces, are passed over.

    Args:
        table: of the vectors of all ids.
        path: of a file with a word and its numbers in each line, separated by spaces, such as GloVe's.
        info: of the data.
        key: of the configuration that names the file: `model.vectors`.

    Raises:
        UserError: no such file, none of the words in it, data that does not tell its words.
    """
    file = Path(path).expanduser()
    ids = {word.encode(errors="replace"): k for k, word in enumerate(getattr(info, "words", ())) if word}
    if not ids:
        raise UserError(f"{key} needs data that tells the words behind its ids, as data=tacred does; set {key}=null")
    if not file.is_file():
        how = f"set {key} to a file of them, such as glove.840B.300d.txt of nlp.stanford.edu/projects/glove, or to null"
        raise UserError(f"word vectors are not on this machine: looked in {file}; {how}")
    found = False
    try:
        with file.open("rb") as lines, torch.no_grad():
            for line in lines:
                word, _, numbers = line.partition(b" ")
                if word in ids and len(values := numbers.split()) == table.embedding_dim:
                    table.weight[ids[word]] = torch.tensor([float(v) for v in values])
                    found = True
    except (OSError, ValueError) as error:
        raise UserError(f"{file}, see {key}, cannot be read: {error}") from error
    if not found:
        raise UserError(f"{file}, see {key}, has no vector of {table.embedding_dim} numbers for any word of the data")
    bring(table)
