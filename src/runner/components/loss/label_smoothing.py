"""Label smoothing: cross entropy against labels mixed with the uniform distribution."""

from runner import card
from runner.kernels import cross_entropy

CARD = card(paper="ls2016", arxiv="1512.00567", source="Szegedy et al. 2016, section 7", off={"eps": 0.0}, tasks=("classification", "language"))


def build(eps: float = 0.1):
    """(1 - eps) * CE + eps * mean_c -log p_c, per sample.

    Args:
        eps: in [0, 1]; weight of the uniform distribution.
    """
    return lambda logits, target: cross_entropy(logits, target, label_smoothing=eps)
