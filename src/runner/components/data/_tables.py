"""Turning arrays into splits: what the small data sets share."""

import torch
from torch import Tensor

from runner.core.data import Data, Info, Split
from runner.core.rng import derive


def standardise(train: Tensor, *others: Tensor) -> list[Tensor]:
    """Zero mean and unit variance of each feature, by the statistics of the training rows; one that is constant in these is only moved to 0."""
    constant = (train == train[0]).all(0)  # as all are in a single row
    mean = torch.where(constant, train[0], train.mean(0))
    std = torch.where(constant, 1, train.std(0, correction=min(1, len(train) - 1)).clamp_min(1e-6))
    return [(x - mean) / std for x in (train, *others)]


def held_out(y: Tensor, share: float, seed: int, stratify: bool, name: str = "split") -> tuple[Tensor, Tensor]:
    """Indices of training and test rows; the same for every seed of a run, stratified by class where asked."""
    generator = torch.Generator().manual_seed(derive(seed, name))
    rows = torch.randperm(len(y), generator=generator)
    if not stratify:
        cut = round(len(y) * share)
        return rows[cut:].sort()[0], rows[:cut].sort()[0]
    parts = [rows[y[rows] == c] for c in y.unique()]
    test = torch.cat([p[: round(len(p) * share)] for p in parts])
    train = torch.cat([p[round(len(p) * share) :] for p in parts])
    return train.sort()[0], test.sort()[0]


def subset(y: Tensor, size: int | None, seed: int, stratify: bool, name: str = "train_size") -> Tensor:
    """Indices of `size` rows, nested in those of any larger size; as many of each class as there are, where stratified.

    Raises:
        ValueError: fewer rows than that.
    """
    if size is None or size == len(y):
        return torch.arange(len(y))
    if size > len(y):
        raise ValueError(f"{name}={size} is more than the {len(y)} samples")
    rows = torch.randperm(len(y), generator=torch.Generator().manual_seed(derive(seed, name)))
    if stratify:
        rank = torch.empty(len(y), dtype=torch.long)  # place of each row within its class
        for c in y.unique():
            rank[rows[y[rows] == c]] = torch.arange(int((y == c).sum()))
        rows = rows[rank[rows].argsort(stable=True)]
    return rows[:size].sort()[0]


def divide(y: Tensor, val: float, size: int | None, seed: int, stratify: bool) -> tuple[Tensor, Tensor | None]:
    """Indices of the rows to train on and to validate on (None for val = 0), of the training rows' labels.

    Raises:
        ValueError: a split would be empty or is not large enough.
    """
    keep, held = torch.arange(len(y)), None
    if val:
        keep, held = held_out(y, val, seed, stratify, "val")
        if not len(keep) or not len(held):
            raise ValueError(f"val={val} of {len(y)} samples leaves a split empty")
    return keep[subset(y[keep], size, seed, stratify)], held


def table(
    x: Tensor, y: Tensor, share: float, seed: int, task: str = "classification", shape=None, scale: bool = True, val: float = 0.0, train_size: int | None = None
) -> Data:
    """Data from one table of samples, with `share` of the rows as the test split.

    Args:
        x: (n, features); y: (n,) classes or (n, outputs) values.
        shape: of one input, if not (features,).
        scale: standardise the features (and the values of a regression) by the training rows.
        val: share of the remaining rows for validation.
        train_size: how many of the rows that then remain are trained on.
    """
    stratify = task == "classification"
    train, test = held_out(y, share, seed, stratify)
    if not len(train) or not len(test):
        raise ValueError(f"test={share} of {len(y)} samples leaves a split empty")
    keep, held = divide(y[train], val, train_size, seed, stratify)
    rows = [train[keep], test] if held is None else [train[keep], test, train[held]]
    inputs, targets = [x[r] for r in rows], [y[r] for r in rows]
    inputs = standardise(*inputs) if scale else inputs
    targets = standardise(*targets) if task == "regression" else targets
    shape = tuple(shape or x.shape[1:])
    info = Info(task, shape, int(y.max()) + 1 if stratify else y.shape[1])
    return Data(info, *(Split(a.reshape(-1, *shape), b) for a, b in zip(inputs, targets, strict=True)))
