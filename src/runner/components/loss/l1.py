"""Absolute error, for regression: the median rather than the mean."""

from runner import card
from runner.components.loss._parts import wide

CARD = card(tasks=("regression",))


def build():
    """Mean over the outputs of |z - t|, per sample."""
    return lambda outputs, target: (wide(outputs) - target).abs().mean(-1)
