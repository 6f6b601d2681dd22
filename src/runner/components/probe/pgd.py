"""Accuracy on inputs that were moved so that the network errs, by projected gradient ascent on the cross entropy."""

import torch
from torch.nn import functional as F

from runner import UserError, card

CARD = card(
    paper="pgd2018",
    arxiv="1706.06083",
    source="Madry et al. 2018: sign ascent from a random start within the ball of the maximum norm",
    better={"acc_adversarial": "max"},
    tasks=("classification",),
)


class PGD:
    def __init__(self, splits, epsilon, step, steps, low, high, samples):
        self.splits, self.epsilon, self.size, self.steps, self.bounds, self.samples = splits, epsilon, step, steps, (low, high), samples

    def attack(self, state, x, y, generator):
        """Inputs within epsilon of x at which the cross entropy of the labels y is as high as ascent finds it."""
        clamp = (lambda v: v) if self.bounds == (None, None) else lambda v: v.clamp(*self.bounds)
        moved = clamp(x + self.epsilon * (2 * torch.rand(x.shape, generator=generator).to(x) - 1))
        for _ in range(self.steps):
            moved = moved.detach().requires_grad_()
            (slope,) = torch.autograd.grad(F.cross_entropy(state.model(moved).float(), y, reduction="sum"), moved)
            moved = clamp((moved.detach() + self.size * slope.sign()).clamp(x - self.epsilon, x + self.epsilon))
        return moved.detach()

    def measure(self, state, split):
        generator, right, n = torch.Generator().manual_seed(state.rng.derive("probe/pgd")), 0, min(self.samples or len(split), len(split))
        bounds = [extreme if v is None else v for v, extreme in zip(self.bounds, (-torch.inf, torch.inf), strict=True)]
        for batch in split.batches(torch.arange(n), state.eval_batch, state.device):
            if not bounds[0] <= batch.x.min() <= batch.x.max() <= bounds[1]:
                raise UserError(
                    f"probe.pgd.low and high are {self.bounds[0]} and {self.bounds[1]}, but inputs go from {batch.x.min():.3g} to {batch.x.max():.3g}"
                )
            with torch.no_grad():
                safe = state.model(batch.x).argmax(-1) == batch.y
            moved = self.attack(state, batch.x, batch.y, generator)
            with torch.no_grad():
                right += (safe & (state.model(moved).argmax(-1) == batch.y)).sum()  # the input as it is, is within the ball
        return {"acc_adversarial": 100 * right / n}


def build(
    epsilon: float = 0.031, step: float = 0.007, steps: int = 20, low: float | None = 0.0, high: float | None = 1.0, samples: int | None = None,
    splits: list[str] = ("test",),
):  # fmt: skip
    """acc_adversarial: percent of the samples whose class is found at the input and at the worst one that the ascent finds within epsilon of it.

    Args:
        epsilon: >= 0; largest change of an entry of the input.
        step: > 0; of the ascent.
        steps: >= 0; of the ascent, each a forward and a backward pass.
        low: smallest valid entry of an input; null for none.
        high: largest valid entry of an input; null for none.
        samples: >= 1; the first ones of a split; all if not given.
        splits: where to measure: train, val, test.
    """
    return PGD(list(splits), epsilon, step, steps, low, high, samples)
