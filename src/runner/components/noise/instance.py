"""Instance-dependent label noise: how likely a label is wrong, and what it becomes, depends on the input."""

import torch

from runner import card
from runner.components.noise._transition import draw

CARD = card(
    arxiv="2006.07836",
    source="Xia et al. 2020, algorithm 2; authors' code xiaoboxia/Part-dependent-label-noise, tools.py",
    off={"rate": 0.0, "spread": 0.0},
    tasks=("classification",),
)
CHUNK = 4096


def truncated_normal(n: int, mean: float, deviation: float, generator: torch.Generator) -> torch.Tensor:
    """n draws from the normal distribution within [0, 1], by the inverse of its distribution function."""
    if deviation == 0:
        return torch.full((n,), mean, dtype=torch.float64)
    low, high = (torch.special.ndtr(torch.tensor((edge - mean) / deviation, dtype=torch.float64)) for edge in (0.0, 1.0))
    u = low + (high - low) * torch.rand(n, generator=generator, dtype=torch.float64)
    return (mean + deviation * torch.special.ndtri(u)).clamp(0, 1)


def build(rate: float = 0.4, spread: float = 0.1):
    """P(y' | x, y) = q_x softmax(x W_y) over the other classes, with q_x from a truncated normal and W_y a random projection of class y.

    Args:
        rate: in [0, 1]; mean of the samples' flip rates, before they are cut off at 0 and 1.
        spread: >= 0; their standard deviation (0.1 in the paper).
    """

    def corrupt(data, generator):
        split, classes = data.train, data.info.outputs
        rates = truncated_normal(len(split), rate, spread, generator)
        noisy = split.y.clone()
        features = torch.Size(data.info.shape).numel()
        for c in range(classes):  # a class at a time: the projections of all classes need not fit in memory
            projection = torch.randn(features, classes, generator=generator)
            for rows in (split.y == c).nonzero()[:, 0].split(CHUNK):
                scores = split.fetch(rows).x.flatten(1).float() @ projection
                scores[:, c] = -torch.inf
                chances = rates[rows, None] * scores.double().softmax(-1)
                chances[:, c] = 1 - rates[rows]
                noisy[rows] = draw(torch.arange(len(rows)), chances, generator)
        split.relabel(noisy)

    return corrupt
