"""The simple noise scale tr(Sigma) / |G|^2, which predicts the largest useful batch size. McCandlish et al. 2018, appendix A.1."""

import math

import torch

from runner import card
from runner.components.probe._objective import Objective
from runner.core.weights import norm

CARD = card(paper="noise_scale2018", arxiv="1812.06162", source="appendix A.1: unbiased |G|^2 and S = tr(Sigma) from two batch sizes")


class NoiseScale:
    splits = ("train",)

    def __init__(self, small, big, repeats):
        self.small, self.big, self.repeats = small, big, repeats

    def measure(self, state, split):
        generator = torch.Generator().manual_seed(state.rng.derive("probe/gradient_noise_scale", state.step))
        norms = torch.stack([self.norms(state, split, generator) for _ in range(self.repeats)]).double().mean(0)
        small, big = norms.tolist()
        signal = (self.big * big - self.small * small) / (self.big - self.small)
        noise = (small - big) / (1 / self.small - 1 / self.big)
        return {"noise_scale": noise / signal if signal > 0 else math.inf, "grad_sq": signal, "grad_var": noise}

    def norms(self, state, split, generator):
        """Squared norms of the gradient: mean over the small batches, and of the big batch that they make up."""
        rows = torch.randint(len(split), (self.big,), generator=generator)  # with replacement: independent draws, as the estimates assume
        total, small = None, 0
        for part in rows.split(self.small):
            gradient = Objective(state, split, part).gradient()
            small = small + norm(gradient).square()
            total = gradient if total is None else torch._foreach_add(total, gradient)
        count = self.big // self.small
        return torch.stack([small / count, norm(total).square() / count**2])


def build(small: int = 8, big: int = 256, repeats: int = 4):
    """noise_scale: B_simple in samples (inf where the gradient drowns); grad_sq: |G|^2; grad_var: trace of the per-sample covariance.

    Args:
        small: >= 1; samples in a small batch.
        big: >= 2; samples in a big batch, a multiple of `small`.
        repeats: >= 1; big batches over which the two squared norms are averaged.
    """
    if big <= small or big % small:
        raise ValueError(f"big={big} must be a multiple of small={small}, and more than it")
    return NoiseScale(small, big, repeats)
