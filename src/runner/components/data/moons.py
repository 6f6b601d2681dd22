"""Two interleaving half circles in the plane: a problem that no line solves."""

import math

import torch

from runner import card
from runner.components.data._tables import table
from runner.core.rng import derive

CARD = card(source="as scikit-learn's make_moons", tasks=("classification",))


def build(samples: int = 1000, noise: float = 0.2, test: float = 0.2, val: float = 0.0, train_size: int | None = None, split: int = 0):
    """Points evenly along an upper and a lower half circle, with Gaussian noise.

    Args:
        samples: >= 4; of all splits together.
        noise: >= 0; deviation of the noise in each coordinate.
        test: in (0, 1); share of the samples in the test split, the same share of each class.
        val: in [0, 1); share of the training rows that are split off for validation.
        train_size: >= 1; train on so many of the training rows, as many of each class; all if not given.
        split: >= 0; which draw of noise and splits.
    """
    generator = torch.Generator().manual_seed(derive(split, "moons"))
    upper, lower = (torch.linspace(0, math.pi, n) for n in (samples // 2, samples - samples // 2))
    x = torch.cat([torch.stack([upper.cos(), upper.sin()], 1), torch.stack([1 - lower.cos(), 0.5 - lower.sin()], 1)])
    y = torch.cat([torch.zeros(len(upper)), torch.ones(len(lower))]).long()
    x = x + noise * torch.randn(x.shape, generator=generator)
    return table(x, y, test, split, scale=False, val=val, train_size=train_size)
