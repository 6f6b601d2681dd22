"""Label-distributionally robust loss (LDR-KL): the worst weighting of the class margins, within a KL ball around the uniform one."""

from runner import card
from runner.kernels import ldr_loss

CARD = card(
    paper="ldr2023", arxiv="2112.14869",
    source="Zhu et al. 2023; authors' code Optimization-AI/ICML2023_LDR loss.py (LDRLoss_V1) and experiment.py: margin 0.1, lambda 10 of {0.1, 1, 10}",
    tasks=("classification", "language"),
)  # fmt: skip


def build(lam: float = 10.0, margin: float = 0.1, normalise: bool = True):
    """lam * log mean_k exp((z_k - z_y + margin [k != y]) / lam), per sample; soft targets as in the authors' code, <t, z> for z_y and 1 - t_k for [k != y].

    Args:
        lam: > 0; to 0 it is the multi-class hinge loss, 1 without margin cross entropy less log C, large a symmetric loss.
        margin: >= 0; added to the other classes' outputs.
        normalise: outputs softplus(z) / mean softplus(z), as in the authors' code; they are bounded, and so is the loss.
    """
    return lambda logits, target: ldr_loss(logits, target, lam=lam, margin=margin, normalise=normalise)
