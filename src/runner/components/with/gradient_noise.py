"""Annealed Gaussian noise on the gradients."""

import torch

from runner import card

CARD = card(
    paper="gradient_noise2015", arxiv="1511.06807", source="Neelakantan et al. 2015, eq. 1: eta of {0.01, 0.3, 1}, gamma = 0.55",
    off={"eta": 0.0}, rung={"grads": "noise"},
)  # fmt: skip


class GradientNoise:
    def __init__(self, eta, gamma):
        self.eta, self.gamma = eta, gamma

    def grads(self, state):
        if not self.eta:
            return
        sigma = (self.eta / (1 + state.step) ** self.gamma) ** 0.5
        generator = state.rng("gradient_noise", state.device)  # as many draws as weights: on the run's device
        for p in state.parameters():
            if p.grad is not None:
                p.grad += sigma * torch.randn(p.shape, generator=generator, device=p.device, dtype=p.dtype)


def build(eta: float = 0.01, gamma: float = 0.55):
    """g <- g + N(0, sigma_t^2) with sigma_t^2 = eta / (1 + t)^gamma at step t.

    Args:
        eta: >= 0; variance at the first step.
        gamma: >= 0; speed of the annealing.
    """
    return GradientNoise(eta, gamma)
