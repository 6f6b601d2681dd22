"""Characters of the Python standard library's own sources: a corpus that is on every machine with Python."""

import sysconfig
from pathlib import Path

import torch

from runner import card
from runner.components.data._files import absent
from runner.core.data import Data, Info, Split

CARD = card(source="the modules at the top of the standard library of the running Python, in the order of their names", tasks=("language",))
VOCABULARY = 128  # ASCII; other characters are left out


def corpus(files: list[Path], length: int) -> torch.Tensor:
    """The first `length` ASCII characters of some files, one after the other."""
    text = bytearray()
    for file in files:
        text += file.read_bytes().replace(b"\r\n", b"\n").decode("utf-8", "ignore").encode("ascii", "ignore")
        if len(text) >= length:
            break
    return torch.frombuffer(text[:length], dtype=torch.uint8).long()


def build(length: int = 64, size: int = 500_000, held_out: int = 50_000):
    """Next-character prediction: x (n, length) and y (n, length), one character later; windows side by side.

    Every tenth module is for the test and every tenth for validation. Another version of Python has other sources.

    Args:
        length: >= 1; characters of a window.
        size: >= 1; characters to train on, at most; fewer where the library is smaller.
        held_out: >= 1; characters of the test and of the validation split, at most.
    """
    folder = Path(sysconfig.get_paths()["stdlib"])
    files = sorted(folder.glob("*.py"))
    if len(files) < 10:
        raise absent("the sources of the standard library", [folder], "install Python with its .py files")
    parts = [[f for k, f in enumerate(files) if k % 10 not in (8, 9)], files[9::10], files[8::10]]
    splits = []
    for part, wanted in zip(parts, (size, held_out, held_out), strict=True):
        text = corpus(part, wanted)
        n = (len(text) - 1) // length
        if n < 1:
            raise ValueError(f"length={length} needs more than {len(text)} characters in each split")
        splits.append(Split(text[: n * length].view(n, length), text[1 : n * length + 1].view(n, length)))
    return Data(Info("language", (length,), VOCABULARY), *splits)
