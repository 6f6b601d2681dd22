"""Focal loss: cross entropy that weighs samples less the better they are predicted."""

from runner import card
from runner.kernels import label_loss

CARD = card(
    paper="focal2017", arxiv="1708.02002", source="Lin et al. 2017, eq. 4 for several classes, without class weights",
    off={"gamma": 0.0}, close=True, tasks=("classification", "language"),
)  # fmt: skip


def build(gamma: float = 2.0):
    """-(1 - p_y)^gamma log p_y, per sample.

    Args:
        gamma: >= 0; focusing on hard samples; 0 is cross entropy.
    """
    return lambda logits, target: label_loss(logits, target, "focal", gamma=gamma)
