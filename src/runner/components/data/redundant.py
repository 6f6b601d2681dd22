"""Linear regression in which most samples say little: they lie close to a subspace of few dimensions."""

import torch

from runner import card
from runner.components.data._tables import table
from runner.core.rng import derive

CARD = card(tasks=("regression",))


def build(
    samples: int = 2500, features: int = 50, core: int = 10, share: float = 0.8, shrink: float = 0.05,
    test: float = 0.2, val: float = 0.0, train_size: int | None = None, split: int = 0,
):  # fmt: skip
    """y = <w, x> without noise, with standard normal w and x; in the redundant samples all but the first features are scaled down.

    Args:
        samples: >= 4; of all splits together.
        features: >= 1; dimensions.
        core: >= 0; features that no sample lacks.
        share: in [0, 1]; of redundant samples.
        shrink: >= 0; what their other features are multiplied with.
        test: in (0, 1); share of the samples in the test split.
        val: in [0, 1); share of the training rows that are split off for validation.
        train_size: >= 1; train on so many of the training rows; all if not given.
        split: >= 0; which draw of weights, samples and splits.
    """
    generator = torch.Generator().manual_seed(derive(split, "redundant"))
    x = torch.randn(samples, features, generator=generator)
    x[: round(share * samples), core:] *= shrink
    y = x @ torch.randn(features, 1, generator=generator)
    return table(x, y, test, split, "regression", scale=False, val=val, train_size=train_size)
