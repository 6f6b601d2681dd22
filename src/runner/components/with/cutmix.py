"""CutMix: paste a box of another image, and mix the labels in proportion to the areas."""

import math

import torch

from runner import card
from runner.core.targets import soft

CARD = card(
    paper="cutmix2019",
    arxiv="1905.04899",
    source="Yun et al. 2019, equations 1 and 2; authors' code clovaai/CutMix-PyTorch, train.py, with the corrected area of its issue 1",
    off={"prob": 0.0},
    rung={"batch": "mix"},
    tasks=("classification",),
    images=True,
)


def box(side: int, share: float, centre: int) -> slice:
    """A cut of half-length floor(side * share) // 2 around the centre, as far as it lies within the side."""
    half = int(side * share) // 2
    return slice(max(centre - half, 0), min(centre + half, side))


class CutMix:
    def __init__(self, alpha, prob):
        self.alpha, self.prob = alpha, prob

    def batch(self, state, batch):
        stream = state.rng("with/cutmix")
        if torch.rand((), generator=stream) >= self.prob:
            return
        import numpy as np

        lam = np.random.default_rng(int(torch.randint(2**62, (), generator=stream))).beta(self.alpha, self.alpha)
        height, width = batch.x.shape[-2:]
        rows, columns = (box(side, math.sqrt(1 - lam), int(torch.randint(side, (), generator=stream))) for side in (height, width))
        partner = torch.randperm(len(batch.i), generator=stream).to(batch.x.device)
        t = soft(batch.t, state.info.outputs)
        x = batch.x.clone()
        x[..., rows, columns] = batch.x[partner][..., rows, columns]
        pasted = (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)
        batch.x, batch.t = x, (1 - pasted) * t + pasted * t[partner]


def build(alpha: float = 1.0, prob: float = 0.5):
    """A box of 1 - lam of the area, lam ~ Beta(alpha, alpha), at a random place, the same for the whole batch; lam is then set to the area left.

    Args:
        alpha: > 0; of the Beta distribution.
        prob: in [0, 1]; share of the batches that are mixed (0.5 on CIFAR, 1 on ImageNet).
    """
    return CutMix(alpha, prob)
