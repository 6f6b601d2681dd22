"""Incomplete observations: some of a sensor's values are too low, and nothing says which."""

import torch

from runner import card

CARD = card(
    paper="u2regression2023",
    source="Katsuki & Osogami 2023, section 2: asymmetric noise that is never positive, beside symmetric noise of the sensor",
    off={"rate": 0.0, "spread": 0.0},
    tasks=("regression",),
)


def build(rate: float = 0.5, scale: float = 1.0, spread: float = 0.15):
    """y + normal noise of deviation `spread`, less |normal| of deviation `scale` for a share of the samples; `side["incomplete"]` says which.

    Args:
        rate: in [0, 1]; share of the training samples that are observed incompletely.
        scale: >= 0; deviation of what is missing then, in units of the labels (the data sets standardise theirs).
        spread: >= 0; deviation of the symmetric noise.
    """

    def corrupt(data, generator):
        split = data.train
        draw = lambda: torch.randn(split.y.shape, generator=generator)
        low = torch.rand(split.y.shape, generator=generator) < rate
        split.side["incomplete"] = low.view(len(low), -1).any(1)
        split.relabel(split.y.cpu() + spread * draw() - scale * draw().abs() * low)

    return corrupt
