"""Turning arrays into splits: what the small data sets share."""

import torch
from torch import Tensor

from runner.core.data import Data, Info, Split
from runner.core.rng import derive


def standardise(train: Tensor, *others: Tensor) -> list[Tensor]:
    """Zero mean and unit variance of each feature, by the statistics of the training rows."""
    mean, std = train.mean(0), train.std(0).clamp_min(1e-6)
    return [(x - mean) / std for x in (train, *others)]


def held_out(y: Tensor, share: float, seed: int, stratify: bool) -> tuple[Tensor, Tensor]:
    """Indices of training and test rows; the same for every seed of a run, stratified by class where asked."""
    generator = torch.Generator().manual_seed(derive(seed, "split"))
    rows = torch.randperm(len(y), generator=generator)
    if not stratify:
        cut = round(len(y) * share)
        return rows[cut:].sort()[0], rows[:cut].sort()[0]
    parts = [rows[y[rows] == c] for c in y.unique()]
    test = torch.cat([p[: round(len(p) * share)] for p in parts])
    train = torch.cat([p[round(len(p) * share) :] for p in parts])
    return train.sort()[0], test.sort()[0]


def table(x: Tensor, y: Tensor, share: float, seed: int, task: str = "classification", shape=None, scale: bool = True) -> Data:
    """Data from one table of samples, with `share` of the rows as the test split.

    Args:
        x: (n, features); y: (n,) classes or (n, outputs) values.
        shape: of one input, if not (features,).
        scale: standardise the features (and the values of a regression) by the training rows.
    """
    train, test = held_out(y, share, seed, task == "classification")
    inputs = standardise(x[train], x[test]) if scale else [x[train], x[test]]
    targets = standardise(y[train], y[test]) if task == "regression" else [y[train], y[test]]
    shape = tuple(shape or x.shape[1:])
    info = Info(task, shape, int(y.max()) + 1 if task == "classification" else y.shape[1])
    splits = [Split(a.reshape(-1, *shape), b) for a, b in zip(inputs, targets, strict=True)]
    return Data(info, *splits)
