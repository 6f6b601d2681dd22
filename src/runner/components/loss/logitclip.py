"""LogitClip: cross entropy of logits whose norm is clipped, which bounds the loss of any one sample."""

from runner import card
from runner.kernels import clipped_cross_entropy

CARD = card(
    paper="logitclip2023", arxiv="2212.04055",
    source="Wei et al. 2023, section 3; authors' code hongxin001/LogitClip algorithms/clip.py clips to 1/temp above temp, equal to this at 1, its default",
    off={"tau": 1e9}, tasks=("classification", "language"),
)  # fmt: skip


def build(tau: float = 1.0, p: float = 2.0):
    """Cross entropy of z * min(1, tau / ||z||_p), per sample; at most log(1 + (C - 1) exp(2 tau)) for p = inf, less for smaller p.

    Args:
        tau: > 0; largest norm of a sample's logits; smaller bounds the loss more.
        p: >= 1; which norm, may be inf.
    """
    return lambda logits, target: clipped_cross_entropy(logits, target, tau=tau, p=p)
