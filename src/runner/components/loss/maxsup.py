"""Max suppression: cross entropy plus a penalty on the largest logit, where label smoothing penalises the label's."""

from runner import card
from runner.kernels import label_loss

CARD = card(
    paper="maxsup2025", arxiv="2502.15798",
    source="Zhou et al. 2025, eq. 8; authors' code ZhouYuxuanYX/Maximum-Suppression-Regularization Conv/ffcv/losses.py, which lets alpha rise from 0.1 to 0.2",
    off={"alpha": 0.0}, tasks=("classification", "language"),
)  # fmt: skip


def build(alpha: float = 0.1):
    """CE + alpha * (max_c z_c - mean_c z_c), per sample: label smoothing where the prediction is right, a true penalty where it is wrong.

    Args:
        alpha: >= 0; strength.
    """
    return lambda logits, target: label_loss(logits, target, "ce", "maxsup", beta=alpha)
