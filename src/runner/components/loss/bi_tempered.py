"""Bi-tempered logistic loss: a bounded logarithm (t1 < 1) of a heavy-tailed softmax (t2 > 1), so that far outliers weigh little."""

import torch

from runner import card
from runner.components.loss._parts import wide
from runner.core.targets import soft

CARD = card(
    paper="bitempered2019", arxiv="1906.03361", source="Amid et al. 2019, eq. 4 and algorithm 1; authors' code google/bi-tempered-loss tensorflow/loss.py",
    off={"t1": 1.0, "t2": 1.0}, close=True, tasks=("classification", "language"),
)  # fmt: skip


def log_t(u, t):
    return u.log() if t == 1 else (u ** (1 - t) - 1) / (1 - t)


def exp_t(u, t):
    return u.exp() if t == 1 else (1 + (1 - t) * u).clamp_min(0) ** (1 / (1 - t))


def tempered_softmax(a, t, iterations):
    """exp_t(a - lambda) with lambda such that it sums to 1 over the classes."""
    if t == 1:
        return a.softmax(-1)
    with torch.no_grad():
        mu = a.amax(-1, keepdim=True)
        shifted = scaled = a - mu
        for _ in range(iterations):
            scaled = shifted * exp_t(scaled, t).sum(-1, keepdim=True) ** (1 - t)
        level = mu - log_t(1 / exp_t(scaled, t).sum(-1, keepdim=True), t)
    # a Newton step on the sum: sharpens lambda, and carries its exact gradient, the escort distribution p^t / sum p^t
    p = exp_t(a - level, t)
    level = level + (p.sum(-1, keepdim=True) - 1) / (p.detach() ** t).sum(-1, keepdim=True)
    return exp_t(a - level, t)


def build(t1: float = 0.8, t2: float = 1.2, iterations: int = 5):
    """Bregman divergence of the tempered entropy between the target and the tempered softmax, per sample.

    Args:
        t1: in [0, 1]; temperature of the logarithm; below 1 the loss is bounded.
        t2: >= 1; temperature of the softmax; above 1 its tail is heavy.
        iterations: >= 1; fixed-point iterations of the normalisation (5 in the authors' code).
    """

    def loss(logits, target):  # (..., C), (...) or (..., C) -> (...)
        p = tempered_softmax(wide(logits), t2, iterations).clamp_min(1e-30)
        t = soft(target, p.shape[-1], p.dtype)
        parts = t * (log_t(t.clamp_min(1e-10), t1) - log_t(p, t1)) - (t ** (2 - t1) - p ** (2 - t1)) / (2 - t1)
        return parts.sum(-1)

    return loss
