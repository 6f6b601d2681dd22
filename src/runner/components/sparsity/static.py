"""Static sparse training: random masks drawn once at initialisation and kept."""

from typing import Literal

from runner import card
from runner.components.sparsity._masks import Masked, draw

CARD = card(
    paper="random_pruning2022",
    arxiv="2202.02643",
    source="Liu et al. 2022; densities from Evci et al. 2020, section 3(1), and google-research/rigl, rigl/sparse_utils.py",
    off={"sparsity": 0.0},
    rung={"grads": "transform"},
    owns=("mask",),
    uses=("network",),
)


class Static(Masked):
    def __init__(self, sparsity, distribution):
        self.sparsity, self.distribution = sparsity, distribution

    def setup(self, state):
        if self.sparsity:
            draw(state, self.sparsity, self.distribution, state.rng("sparsity/static"))


def build(sparsity: float = 0.9, distribution: Literal["erk", "erdos_renyi", "uniform"] = "erk"):
    """Random masks with exactly the asked number of weights.

    Args:
        sparsity: in [0, 1); share of the weights of linear and convolution layers that are zero.
        distribution: how the rest is shared between layers: uniform (alike), erdos_renyi (small layers denser), erk (with kernels counted).
    """
    return Static(sparsity, distribution)
