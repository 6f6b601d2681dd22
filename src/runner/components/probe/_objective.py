"""The mean training loss of fixed samples as a function of the trainable parameters: its values, gradients and Hessian products.

Nothing here touches `.grad`, and weights that are moved are put back bit for bit. Weights that are masked or pruned do not move, so they
are no part of it.
"""

import torch
from torch import Tensor

from runner.core.weights import norm


def draw(split, count: int, generator: torch.Generator) -> Tensor:
    """Up to `count` different rows of a split."""
    return torch.randperm(len(split), generator=generator)[:count]


def _mask(state, name: str, p: Tensor) -> Tensor | None:
    """Which entries of a parameter the loss depends on, or None for all: not the masked, and not what the parametrization of its layer prunes."""
    if name.endswith(".original") and hasattr(pattern := state.model.get_submodule(name.removesuffix(".original"))[0], "mask"):
        return pattern.mask(p)
    return state.masks.get(name)


class Objective:
    """The mean of `state.loss` over rows of a split, computed `state.eval_batch` rows at a time in the model's present mode."""

    def __init__(self, state, split, rows: Tensor):
        self.state, self.rows = state, rows
        self.pieces = [split.fetch(part) for part in rows.split(state.eval_batch)]
        named = {name: p for name, p in state.model.named_parameters() if p.requires_grad}
        self.parameters = list(named.values())
        self.masks = [_mask(state, name, p) for name, p in named.items()]

    def free(self, vector) -> list[Tensor]:
        """A direction in which no masked weight moves."""
        return [v if mask is None else v * mask for v, mask in zip(vector, self.masks, strict=True)]

    def _loss(self, piece) -> Tensor:
        # not `model(x)`: a compiled call cannot be differentiated twice
        losses = self.state.loss(self.state.model.forward(piece.x), piece.y)
        return losses.flatten(1).mean(1).sum() / len(self.rows) if losses.dim() > 1 else losses.sum() / len(self.rows)

    @torch.no_grad()
    def value(self, shift: list[Tensor] | None = None) -> Tensor:
        """The loss, at the weights or where `shift` leads from them."""
        before = [p.clone() for p in self.parameters]
        try:
            if shift is not None:
                torch._foreach_add_(self.parameters, shift)
            return torch.stack([self._loss(piece) for piece in self.pieces]).sum()
        finally:
            torch._foreach_copy_(self.parameters, before)

    def gradient(self) -> list[Tensor]:
        total = [torch.zeros_like(p) for p in self.parameters]
        for piece in self.pieces:
            torch._foreach_add_(total, torch.autograd.grad(self._loss(piece), self.parameters, materialize_grads=True))
        return self.free(total)

    def hessian_times(self, vector: list[Tensor]) -> list[Tensor]:
        """The Hessian times a direction (Pearlmutter 1994)."""
        total = [torch.zeros_like(p) for p in self.parameters]
        # the fused kernels of attention have no second derivative
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            for piece in self.pieces:
                first = torch.autograd.grad(self._loss(piece), self.parameters, create_graph=True, materialize_grads=True)
                slope = dot(first, vector)
                if slope.requires_grad:
                    torch._foreach_add_(total, torch.autograd.grad(slope, self.parameters, materialize_grads=True))
        return self.free(total)


def dot(one, other) -> Tensor:
    return torch.stack([(a * b).sum() for a, b in zip(one, other, strict=True)]).sum()


def unit(vector) -> list[Tensor]:
    """The direction at length 1; zero stays zero."""
    return torch._foreach_div(list(vector), norm(vector).clamp_min(1e-20))
