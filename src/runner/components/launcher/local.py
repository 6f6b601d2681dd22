"""This machine."""

from runner import card

CARD = card()


def build():
    """Run here."""
    return None
