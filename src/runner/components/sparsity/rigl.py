"""RigL: drop the smallest weights and grow where the gradient is largest, at a fixed number of weights. Evci et al. 2020, algorithm 1."""

import math
from typing import Literal

import torch

from runner import Duration, card
from runner.components.sparsity._masks import Masked, draw, due, rewire

CARD = card(
    paper="rigl2020",
    arxiv="1911.11134",
    source="section 3, algorithm 1; authors' code google-research/rigl, sparse_optimizers_base.py (an update takes the place of the weights' step)",
    off={"sparsity": 0.0},
    rung={"grads": "transform", "step": "own"},
    owns=("mask",),
    uses=("network",),
)


class RigL(Masked):
    def __init__(self, sparsity, alpha, every, end, distribution):
        self.sparsity, self.alpha, self.every, self.end, self.distribution = sparsity, alpha, every, end, distribution
        self.dense = {}

    def setup(self, state):
        if self.sparsity:
            draw(state, self.sparsity, self.distribution, state.rng("sparsity/rigl"))

    def now(self, state):
        return bool(state.masks) and due(state, state.step, self.every) and state.step < self.end * state.clock.total

    def grads(self, state):
        """Keep the dense gradients of the weights as they are, not of perturbed ones, before the masked entries are cut off."""
        if self.now(state) and not state.replay:
            self.dense = {name: p.grad.clone() for name in state.masks if (p := state.model.get_parameter(name)).grad is not None}
        super().grads(state)

    def step(self, state, grads, apply):
        def update():
            dense, self.dense = self.dense, {}
            if not dense or not all(bool(torch.isfinite(g).all()) for g in dense.values()):
                apply()  # also when fp16 overflowed: the weights' step is skipped there, and so is the update
                return
            fraction = self.alpha / 2 * (1 + math.cos(math.pi * state.step / (self.end * state.clock.total)))
            rewire(state, fraction, dense)

        return grads, update


def build(
    sparsity: float = 0.9,
    alpha: float = 0.3,
    every: Duration = "100it",
    end: float = 0.75,
    distribution: Literal["erk", "erdos_renyi", "uniform"] = "erk",
):
    """Every so many steps, drop a share alpha/2 (1 + cos(pi t / T_end)) by magnitude and grow as many by the dense gradient, from zero.

    Args:
        sparsity: in [0, 1); share of the weights of linear and convolution layers that are zero.
        alpha: in [0, 1]; share of a layer's weights that the first update replaces.
        every: time between two updates (Delta T).
        end: in (0, 1]; share of the run after which the masks stay (T_end).
        distribution: of the weights over the layers: uniform (alike), erdos_renyi (small layers denser), erk (with kernels counted).
    """
    return RigL(sparsity, alpha, every, end, distribution)
