"""N:M sparsity with SR-STE: of every M weights in a row the N largest are used, while the dense weights go on learning. Zhou et al. 2021."""

import torch
from torch import nn
from torch.nn.utils import parametrize

from runner import card
from runner.core.errors import UserError
from runner.core.weights import matrices

CARD = card(
    paper="srste2021",
    arxiv="2102.04010",
    source="eq. 9 (SR-STE, lambda = 2e-4); authors' code aojunzz/NM-sparsity, devkit/sparse_ops/sparse_ops.py (groups along the inputs)",
    off={"n": 4, "m": 4},
    rung={"setup": "layers", "grads": "transform"},
    owns=("mask",),
    uses=("network",),
)


class Pattern(nn.Module):
    """What the layer computes with instead of its dense weight. Everything that changes weights or saves them sees the dense one."""

    def __init__(self, n: int, m: int):
        super().__init__()
        self.n, self.m = n, m

    def mask(self, weight):
        from runner.kernels import nm_mask

        return nm_mask(weight, self.n, self.m, dim=1)

    def forward(self, weight):
        from runner.kernels import sr_ste

        return sr_ste(weight, self.n, self.m, dim=1, decay=0.0)  # the decay is no part of the loss's gradient: see `grads`


class SRSTE:
    def __init__(self, n, m, lam, dense):
        self.n, self.m, self.lam, self.dense = n, m, lam, dense
        self.layers = []

    def setup(self, state):
        if self.n == self.m:
            return
        every = {name.removesuffix("weight").rstrip("."): w for name, w in matrices(state.model).items()}
        if unknown := set(self.dense) - every.keys():
            raise UserError(f"sparsity.dense={sorted(unknown)}: no such layer; there are {', '.join(every)}")
        self.layers = [name for name, w in every.items() if w.shape[1] % self.m == 0 and name not in self.dense]
        if not self.layers:
            raise UserError(f"sparsity/nm: no layer has a number of inputs that {self.m} divides; choose another m or width")
        for name in self.layers:
            parametrize.register_parametrization(state.model.get_submodule(name), "weight", Pattern(self.n, self.m))

    @torch.no_grad()
    def grads(self, state):
        """Add lambda (1 - mask) w: here, so that it counts once however many pieces a batch is computed in, and no loss scale touches it."""
        for name in self.layers:
            parts = state.model.get_submodule(name).parametrizations.weight
            weight = parts.original
            if weight.grad is not None:
                weight.grad.add_(weight.masked_fill(parts[0].mask(weight), 0), alpha=self.lam)


def build(n: int = 2, m: int = 4, lam: float = 2e-4, dense: list[str] = ()):
    """Forward with mask * w; w <- w - rate * (gradient of mask * w + lam (1 - mask) w). Layers whose inputs m does not divide stay dense.

    Args:
        n: >= 1; weights used of every group.
        m: in [1, 32]; neighbouring inputs in a group.
        lam: >= 0; decay of the weights that are not used; 0 is the plain straight-through estimator.
        dense: linear and convolution layers that stay dense, by the names of their modules.
    """
    if n > m:
        raise ValueError(f"n={n} must not exceed m={m}")
    return SRSTE(n, m, lam, list(dense))
