"""No schedule: the learning rate stays."""

from runner import card

CARD = card()


def build():
    """Factor 1 at every step."""
    return lambda clock: lambda step: 1.0
