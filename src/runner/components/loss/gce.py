"""Generalised cross entropy: between cross entropy (q -> 0) and the mean absolute error (q = 1)."""

import torch

from runner import card
from runner.components.loss._parts import wide
from runner.core.targets import expected

CARD = card(
    paper="gce2018", arxiv="1805.07836", source="Zhang & Sabuncu 2018, eq. 6; q = 0.7 in all their experiments",
    off={"q": 1e-7}, close=True, tasks=("classification", "language"),
)  # fmt: skip


def build(q: float = 0.7):
    """(1 - p_y^q) / q, per sample.

    Args:
        q: in (0, 1]; larger is more robust to wrong labels and slower to fit.
    """

    def loss(logits, target):  # (..., C), (...) or (..., C) -> (...)
        return -expected(torch.expm1(q * wide(logits).log_softmax(-1)), target) / q

    return loss
