"""Sharpness of the minimum: the largest Hessian eigenvalue, and how much the loss rises within a small ball (Foret et al. 2021)."""

import torch

from runner import card
from runner.components.probe._objective import Objective, dot, draw, unit

CARD = card(
    paper="sam2021", arxiv="2010.01412", source="eq. 2 (worst case to first order), section 4.2 (eigenvalue); power iteration with Pearlmutter's products"
)


class Sharpness:
    splits = ("train",)

    def __init__(self, samples, iterations, rho):
        self.samples, self.iterations, self.rho = samples, iterations, rho

    def measure(self, state, split):
        generator = torch.Generator().manual_seed(state.rng.derive("probe/sharpness"))
        objective = Objective(state, split, draw(split, self.samples, generator))
        start = unit(objective.free([torch.randn(p.shape, generator=generator).to(p) for p in objective.parameters]))
        slope = unit(objective.gradient())
        rise = objective.value(torch._foreach_mul(slope, self.rho)) - objective.value()
        return {"sharpness": self.top(objective, start), "sam_sharpness": rise}

    def top(self, objective, vector):
        """The largest eigenvalue. Power iteration finds the one of largest size; where that is negative, the Hessian is shifted by it."""
        value = self.power(objective, vector, 0.0)
        return value if value >= 0 else self.power(objective, vector, value) + value

    def power(self, objective, vector, shift):
        for _ in range(self.iterations):
            image = torch._foreach_sub(objective.hessian_times(vector), torch._foreach_mul(vector, shift))
            value, vector = dot(vector, image).item(), unit(image)
        return value


def build(samples: int = 512, iterations: int = 30, rho: float = 0.05):
    """sharpness: largest eigenvalue of the Hessian of the training loss; sam_sharpness: L(w + rho g/|g|) - L(w).

    Args:
        samples: >= 1; training samples, the same ones all through the run, not augmented.
        iterations: >= 1; Hessian products of the power iteration.
        rho: > 0; radius of the ball.
    """
    return Sharpness(samples, iterations, rho)
