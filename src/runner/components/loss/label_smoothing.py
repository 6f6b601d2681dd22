"""Label smoothing: cross entropy against labels mixed with the uniform distribution."""

from runner import card
from runner.components.loss._parts import cross_entropy, wide

CARD = card(paper="ls2016", arxiv="1512.00567", source="Szegedy et al. 2016, section 7", off={"eps": 0.0}, tasks=("classification", "language"))


def build(eps: float = 0.1):
    """(1 - eps) * CE + eps * mean_c -log p_c, per sample.

    Args:
        eps: in [0, 1]; weight of the uniform distribution.
    """

    def loss(logits, target):  # (..., C), (...) or (..., C) -> (...)
        return (1 - eps) * cross_entropy(logits, target) - eps * wide(logits).log_softmax(-1).mean(-1)

    return loss
