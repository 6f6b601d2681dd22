"""Mean squared error, the baseline of regression."""

from runner import card
from runner.components.loss._parts import wide

CARD = card(tasks=("regression",))


def build():
    """Mean over the outputs of (z - t)^2, per sample."""
    return lambda outputs, target: (wide(outputs) - target).square().mean(-1)
