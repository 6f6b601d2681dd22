"""Cross entropy, the baseline of every robust loss; class indices or probabilities as targets."""

from runner import card
from runner.kernels import cross_entropy

CARD = card(tasks=("classification", "language", "segmentation", "detection", "boxes"))


def build():
    """-sum_c t_c log p_c, per sample."""
    return cross_entropy
