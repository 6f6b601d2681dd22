"""Adaptive-k: keep the samples whose loss is below a threshold that follows the mean loss."""

from typing import Literal

import torch

from runner import Duration, card
from runner.components._selection import only

CARD = card(
    paper="adaptivek2022",
    arxiv="2203.14165",
    source="Dedeoglu et al. 2022; authors' code enesdedeoglu-TR/Adaptive-k, MNIST.ipynb",
    off={"warmup": "1000ep"},
    rung={"losses": "select"},
    tasks=("classification",),
)


class AdaptiveK:
    def __init__(self, warmup, beta1, beta2, threshold):
        self.warmup, self.beta1, self.beta2, self.threshold = warmup, beta1, beta2, threshold

    def setup(self, state):
        self.m, self.v = torch.zeros((), device=state.device), torch.zeros((), device=state.device)
        state.per_sample["selected"] = torch.ones(len(state.data.train), device=state.device)

    def losses(self, state, losses, batch):
        if state.step < state.clock.steps(self.warmup):
            return losses
        mean = losses.detach().mean().float()
        if not state.replay:
            self.m = self.beta1 * self.m + (1 - self.beta1) * mean
            self.v = self.beta2 * self.v + (1 - self.beta2) * mean**2
        limit = mean if self.threshold == "mean" else self.m / (self.v.sqrt() + 1e-8)
        chosen = (losses.detach() <= limit).to(losses.dtype)
        if not state.replay:
            state.per_sample["selected"][batch.i] = chosen.float()
        return only(losses, chosen)


def build(warmup: Duration = "30ep", beta1: float = 0.9, beta2: float = 0.999, threshold: Literal["adaptive", "mean"] = "adaptive"):
    """The mean over the losses of at most m / sqrt(v), where m and v are running means of the batch's mean loss and of its square.

    Both start at zero after the warm-up and are not corrected for it, as in the authors' code: the ratio rises to some 6 and tends to 1.

    Args:
        warmup: how long all samples are used (30 of 80 epochs in the authors' code).
        beta1: in [0, 1); memory of m.
        beta2: in [0, 1); memory of v.
        threshold: adaptive, or mean for the batch's own mean loss.
    """
    return AdaptiveK(warmup, beta1, beta2, threshold)
