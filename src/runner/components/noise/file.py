"""Noisy labels from a file, such as the human annotations CIFAR-10N and CIFAR-100N."""

import csv
import pickle
from pathlib import Path

import torch

from runner import UserError, card

CARD = card(arxiv="2110.12088", source="Wei et al. 2022; authors' files UCSC-REAL/cifar-10-100n, data/CIFAR-10_human.pt", tasks=("classification",))


def torch_file(path: Path):
    """A tensor, or a dictionary of arrays, read as data only: nothing in the file can run."""
    import numpy as np

    rebuild = np.empty(0).__reduce__()[0]  # what NumPy's own pickles of arrays call
    names = [(rebuild, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")]
    kinds = {type(np.dtype(kind)) for kind in ("u1", "i1", "i2", "i4", "i8")}
    with torch.serialization.safe_globals([*names, np.ndarray, np.dtype, *kinds]):
        return torch.load(path, map_location="cpu", weights_only=True)


def table(path: Path, key: str | None):
    """The columns of a table with a header, by name; without a key its single column, with or without one."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = [row for row in csv.reader(file) if row]
    if key is not None:
        return {name: [row[k] for row in rows[1:]] for k, name in enumerate(rows[0])}
    if len(rows[0]) > 1:
        raise ValueError(f"it has {len(rows[0])} columns; choose one with noise.key")
    return [row[0] for row in rows[not rows[0][0].strip().lstrip("-").isdigit() :]]


def indices(values) -> torch.Tensor:
    """Whole numbers (n,), also those that a table spells. Raises ValueError."""
    values = torch.as_tensor([int(v) for v in values] if isinstance(values, list) else values)
    if values.is_floating_point() or values.is_complex():
        raise ValueError("labels must be whole numbers")
    return values.flatten().long()


def read(path: Path, key: str | None) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The labels, and the clean ones where the file holds them too. Raises ValueError."""
    import numpy as np

    if path.suffix in (".pt", ".pth"):
        content = torch_file(path)
    elif path.suffix == ".npy":
        content = np.load(path, allow_pickle=False)
    elif path.suffix in (".csv", ".txt"):
        content = table(path, key)
    else:
        raise ValueError("its name must end in .pt, .npy, .csv or .txt")
    if not isinstance(content, dict):
        return indices(content), None
    if key not in content:
        raise ValueError(f"choose one of its parts with noise.key: {', '.join(map(str, content))}")
    return indices(content[key]), indices(content["clean_label"]) if "clean_label" in content else None


def build(path: str, key: str | None = None):
    """Replace the training labels by those of a file, in the order of the training split.

    Args:
        path: a .pt (tensor or dictionary), .npy, .csv or .txt file of class indices.
        key: which entry of a dictionary or column of a table, such as worse_label of CIFAR-10N.
    """
    file = Path(path).expanduser()

    def corrupt(data, generator):
        del generator
        split, classes = data.train, data.info.outputs
        if not file.is_file():
            raise UserError(f"noise/file: no labels there; looked for {file.absolute()}")
        try:
            labels, clean = read(file, key)
        except (ValueError, IndexError, TypeError, RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
            raise UserError(f"noise/file: cannot use {file}: {str(error).splitlines()[0] if str(error) else type(error).__name__}") from error
        if len(labels) != len(split):
            raise UserError(f"noise/file: {file} holds {len(labels)} labels; the training split has {len(split)} samples")
        if labels.min() < 0 or labels.max() >= classes:
            raise UserError(f"noise/file: {file} holds labels from {labels.min()} to {labels.max()}; the data's classes are 0 to {classes - 1}")
        if clean is not None and not torch.equal(clean, split.y.cpu()):
            raise UserError(f"noise/file: {file} has its samples in another order than the data: its clean_label differs from the data's labels")
        split.relabel(labels)

    return corrupt
