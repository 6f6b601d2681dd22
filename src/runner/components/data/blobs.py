"""Gaussian clusters, one a class: the simplest problem there is."""

import torch

from runner import card
from runner.components.data._tables import table
from runner.core.rng import derive

CARD = card(source="as scikit-learn's make_blobs: centres uniform in a box, equal clusters", tasks=("classification",))


def build(
    samples: int = 1000, classes: int = 3, features: int = 2, spread: float = 1.0, box: float = 10.0,
    test: float = 0.2, val: float = 0.0, train_size: int | None = None, split: int = 0,
):  # fmt: skip
    """x ~ N(centre of the class, spread^2 I); inputs as they are drawn.

    Args:
        samples: >= 4; of all splits together.
        classes: >= 2; clusters.
        features: >= 1; dimensions.
        spread: >= 0; deviation of a cluster.
        box: > 0; centres are uniform in [-box, box] in each dimension.
        test: in (0, 1); share of the samples in the test split, the same share of each class.
        val: in [0, 1); share of the training rows that are split off for validation.
        train_size: >= 1; train on so many of the training rows, as many of each class; all if not given.
        split: >= 0; which draw of centres, samples and splits.
    """
    generator = torch.Generator().manual_seed(derive(split, "blobs"))
    centres = (2 * torch.rand(classes, features, generator=generator) - 1) * box
    y = torch.arange(samples) % classes
    x = centres[y] + spread * torch.randn(samples, features, generator=generator)
    return table(x, y, test, split, scale=False, val=val, train_size=train_size)
