"""Entmax loss: the Fenchel-Young loss of entmax, whose probabilities can be exactly 0 and which a led label no longer moves."""

from runner import card
from runner.kernels import entmax_loss

CARD = card(
    paper="entmax2019", arxiv="1905.05702",
    source="Peters et al. 2019, section 3.2 (alpha 1.5 is theirs); Blondel et al. 2020 (1901.02324) for soft targets; authors' code deep-spin/entmax losses.py",
    off={"alpha": 1.0}, close=True, tasks=("classification", "language"),
)  # fmt: skip


def build(alpha: float = 1.5):
    """<p - t, z> + H(p) - H(t) with p = entmax(z) and the Tsallis entropy H, per sample; its gradient is p - t.

    Args:
        alpha: >= 1; 1 is cross entropy less the entropy of the target, 2 the sparsemax loss; a lead of 1 / (alpha - 1) costs nothing.
    """
    return lambda logits, target: entmax_loss(logits, target, alpha)
