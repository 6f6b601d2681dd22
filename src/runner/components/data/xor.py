"""XOR clusters in many dimensions: the label hangs on two directions together, all others are noise."""

import torch

from runner import card
from runner.components.data._tables import table
from runner.core.rng import derive

CARD = card(paper="xor2023", arxiv="2310.02541", source="Xu et al. 2023: clusters at +-mu1 and +-mu2, orthogonal", tasks=("classification",))


def build(
    samples: int = 1000, features: int = 20, distance: float = 5.0, noise: float = 1.0, rotate: bool = True,
    test: float = 0.2, val: float = 0.0, train_size: int | None = None, split: int = 0,
):  # fmt: skip
    """Class 0: clusters at +-mu1; class 1: at +-mu2; no linear model does better than chance.

    Args:
        samples: >= 8; of all splits together, equally from the four clusters.
        features: >= 2; dimensions; those beyond the first two are nuisance.
        distance: >= 0; length of mu1 and mu2.
        noise: >= 0; deviation of the samples around their centre in each dimension.
        rotate: turn the whole by a random rotation, so that no coordinate is special.
        test: in (0, 1); share of the samples in the test split, the same share of each class.
        val: in [0, 1); share of the training rows that are split off for validation.
        train_size: >= 1; train on so many of the training rows, as many of each class; all if not given.
        split: >= 0; which draw of samples and splits.
    """
    generator = torch.Generator().manual_seed(derive(split, "xor"))
    cluster = torch.arange(samples) % 4
    y, sign = cluster % 2, 1 - 2 * (cluster // 2)
    x = noise * torch.randn(samples, features, generator=generator)
    x[torch.arange(samples), y] += distance * sign
    if rotate:
        x = x @ torch.linalg.qr(torch.randn(features, features, generator=generator))[0]
    return table(x, y, test, split, scale=False, val=val, train_size=train_size)
