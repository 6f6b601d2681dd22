"""Self-adjust softmax: weights times their own scores, so that the gradient lives on where the softmax saturates."""

from runner import card

CARD = card(paper="sa_softmax2025", arxiv="2502.18277", source="Zheng et al. 2025, abstract; authors' code HKUDS/SepLLM, USE_SA_SOFTMAX")


def build(normalise: bool = True):
    """(s - low) / (high - low) softmax(s), with low = min(min s, 0) and high = max(max s, 0) over the scores s that a query sees.

    Args:
        normalise: off, the factor is the score itself, and weights may be negative.
    """
    from runner.kernels import self_adjust_softmax

    return lambda: lambda scores: self_adjust_softmax(scores, normalise=normalise)
