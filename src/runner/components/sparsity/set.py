"""SET, sparse evolutionary training: after every epoch drop the smallest weights and grow as many at random."""

import math
from typing import Literal

import torch

from runner import Duration, card
from runner.components.sparsity._masks import Masked, draw, due, rewire

CARD = card(
    paper="set2018",
    arxiv="1707.04780",
    source="Mocanu et al. 2018, algorithm 1 (zeta = 0.3); by magnitude, from zero and, if so asked, annealed as in Evci et al. 2020, "
    "table 1 and section 3, and google-research/rigl",
    off={"sparsity": 0.0},
    rung={"grads": "transform", "step_end": "mask"},
    owns=("mask",),
    uses=("network",),
)


class SET(Masked):
    def __init__(self, sparsity, fraction, every, end, distribution, anneal):
        self.sparsity, self.fraction, self.every, self.end, self.distribution = sparsity, fraction, every, end, distribution
        self.anneal = anneal

    def setup(self, state):
        if self.sparsity:
            draw(state, self.sparsity, self.distribution, state.rng("sparsity/set"))

    def step_end(self, state):
        taken = state.step + 1
        if due(state, taken, self.every) and taken < self.end * state.clock.total:
            draws = {name: torch.rand(mask.shape, generator=state.rng("sparsity/set")).to(mask.device) for name, mask in state.masks.items()}
            share = (1 + math.cos(math.pi * taken / (self.end * state.clock.total))) / 2 if self.anneal == "cosine" else 1.0
            rewire(state, share * self.fraction, draws)


def build(
    sparsity: float = 0.9,
    fraction: float = 0.3,
    every: Duration = "1ep",
    end: float = 1.0,
    distribution: Literal["erk", "erdos_renyi", "uniform"] = "erdos_renyi",
    anneal: Literal["constant", "cosine"] = "constant",
):
    """Drop by magnitude, grow at random; new weights start at zero.

    Args:
        sparsity: in [0, 1); share of the weights of linear and convolution layers that are zero.
        fraction: in [0, 1]; share of a layer's weights that are replaced (zeta).
        every: time between two replacements.
        end: in [0, 1]; share of the run after which the masks stay.
        distribution: of the weights over the layers: uniform (alike), erdos_renyi (small layers denser), erk (with kernels counted).
        anneal: of the fraction: constant, or half a cosine down to 0 at `end` (RigL's schedule, which its authors' comparison gives SET too).
    """
    return SET(sparsity, fraction, every, end, distribution, anneal)
