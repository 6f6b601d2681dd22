"""Stablemax: the exponential of the softmax replaced by s + 1 above zero and 1 / (1 - s) below, so that no score absorbs the others."""

from runner import card

CARD = card(paper="stablemax2025", arxiv="2501.04697", source="Prieto et al. 2025; authors' code, utils.py, s and log_stablemax")


def build(temperature: float = 1.0):
    """f(s / temperature), normalised, with f(x) = x + 1 for x >= 0 and 1 / (1 - x) below.

    Args:
        temperature: > 0; above 1 flatter.
    """
    from runner.kernels import stablemax

    return lambda: lambda scores: stablemax(scores / temperature if temperature != 1 else scores)
