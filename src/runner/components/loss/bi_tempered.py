"""Bi-tempered logistic loss: a bounded logarithm (t1 < 1) of a heavy-tailed softmax (t2 > 1), so that far outliers weigh little."""

from runner import card
from runner.kernels import bi_tempered_loss

CARD = card(
    paper="bitempered2019", arxiv="1906.03361", source="Amid et al. 2019, eq. 4 and algorithm 1; authors' code google/bi-tempered-loss tensorflow/loss.py",
    off={"t1": 1.0, "t2": 1.0}, close=True, tasks=("classification", "language"),
)  # fmt: skip


def build(t1: float = 0.8, t2: float = 1.2, iterations: int = 5):
    """Bregman divergence of the tempered entropy between the target and the tempered softmax, per sample.

    Args:
        t1: in [0, 1]; temperature of the logarithm; below 1 the loss is bounded.
        t2: >= 1; temperature of the softmax; above 1 its tail is heavy.
        iterations: >= 1; fixed-point iterations of the normalisation (5 in the authors' code).
    """
    return lambda logits, target: bi_tempered_loss(logits, target, t1=t1, t2=t2, iterations=iterations)
