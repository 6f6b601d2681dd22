"""Mixup: train on convex combinations of pairs of samples and of their labels."""

import torch

from runner import card
from runner.core.targets import soft

CARD = card(
    paper="mixup2018",
    arxiv="1710.09412",
    source="Zhang et al. 2018, equation 1; authors' code facebookresearch/mixup-cifar10, train.py",
    off={"alpha": 0.0},
    rung={"batch": "mix"},
    tasks=("classification", "regression"),
)


class Mixup:
    def __init__(self, alpha):
        self.alpha = alpha

    def batch(self, state, batch):
        if not self.alpha:
            return
        import numpy as np

        stream = state.rng("with/mixup")
        lam = np.random.default_rng(int(torch.randint(2**62, (), generator=stream))).beta(self.alpha, self.alpha)
        partner = torch.randperm(len(batch.i), generator=stream).to(batch.x.device)
        t = soft(batch.t, state.info.outputs)
        batch.x = lam * batch.x + (1 - lam) * batch.x[partner]
        batch.t = lam * t + (1 - lam) * t[partner]


def build(alpha: float = 1.0):
    """x = lam x_i + (1 - lam) x_j, and targets alike; one lam ~ Beta(alpha, alpha) a batch.

    Args:
        alpha: >= 0; strength (1 in the CIFAR experiments, 8 to 32 against wrong labels).
    """
    return Mixup(alpha)
