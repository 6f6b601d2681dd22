"""Generalised cross entropy: between cross entropy (q -> 0) and the mean absolute error (q = 1)."""

from runner import card
from runner.kernels import label_loss

CARD = card(
    paper="gce2018", arxiv="1805.07836", source="Zhang & Sabuncu 2018, eq. 6; q = 0.7 in all their experiments",
    off={"q": 1e-7}, close=True, tasks=("classification", "language"),
)  # fmt: skip


def build(q: float = 0.7):
    """(1 - p_y^q) / q, per sample.

    Args:
        q: in (0, 1]; larger is more robust to wrong labels and slower to fit.
    """
    return lambda logits, target: label_loss(logits, target, "gce", q=q)
