"""Sharpness-aware minimisation: the gradient is taken where the loss is worst within a small ball around the weights."""

import torch

from runner import card
from runner.core.weights import norm

CARD = card(
    paper="sam2021", arxiv="2010.01412",
    source="Foret et al. 2021, algorithm 1, p = 2; adaptive: Kwon et al. 2021 (2102.11600), authors' code SamsungLabs/ASAM asam.py",
    off={"rho": 0.0}, rung={"step": "perturb"}, cost=2.0,
)  # fmt: skip


class SAM:
    def __init__(self, rho, adaptive, eta):
        self.rho, self.adaptive, self.eta = rho, adaptive, eta

    def step(self, state, grads, apply):
        if not self.rho:
            return grads, apply

        def worst_case():
            loss = grads()
            moved = [p for p in state.parameters() if p.grad is not None]
            weights = [p.detach().clone() for p in moved]
            buffers = [(b, b.clone()) for b in state.model.buffers()]
            self._climb(state, moved)
            grads()
            with torch.no_grad():
                torch._foreach_copy_(moved, weights)
                for buffer, before in buffers:  # batch-norm statistics are those of the weights themselves
                    buffer.copy_(before)
            return loss

        return worst_case, apply

    @torch.no_grad()
    def _climb(self, state, moved):
        """Add rho T^2 g / ||T g|| to the weights, with T = 1, or |w| + eta for the weights of ASAM."""
        names = {id(p): name for name, p in state.model.named_parameters()}
        steps = []
        for p in moved:
            mask = state.masks.get(names.get(id(p)))
            steps.append(p.grad.clone() if mask is None else p.grad * mask)
        scales = [p.abs() + self.eta if self.adaptive and "weight" in names.get(id(p), "weight") else torch.ones_like(p) for p in moved]
        if self.adaptive:
            torch._foreach_mul_(steps, scales)
        length = norm(steps) + 1e-16  # before the second factor T
        if self.adaptive:
            torch._foreach_mul_(steps, scales)
        torch._foreach_mul_(steps, self.rho / length)
        torch._foreach_add_(moved, steps)


def build(rho: float = 0.05, adaptive: bool = False, eta: float = 0.01):
    """Two gradients a step: at w, then at w + rho g / ||g||; the optimizer applies the second at w. Masked weights stay 0.

    Args:
        rho: >= 0; radius of the ball (0.05 in the paper, 0.1 under label noise; with `adaptive` about 10 times larger, 0.5 for CIFAR-10).
        adaptive: ASAM, a ball that scales with each weight.
        eta: >= 0; added to the size of a weight by ASAM.
    """
    return SAM(rho, adaptive, eta)
