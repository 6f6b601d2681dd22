"""Active passive loss: a robust loss that raises the label's probability plus one that also lowers the others'."""

from typing import Literal

from runner import card
from runner.kernels import label_loss

CARD = card(
    paper="apl2020", arxiv="2006.13554", source="Ma et al. 2020, eq. 3 and 9; authors' code HanxunH/Active-Passive-Losses loss.py and configs/cifar10/sym",
    tasks=("classification", "language"),
)  # fmt: skip


def build(
    active: Literal["nce", "nfl", "ce", "focal"] = "nce",
    passive: Literal["mae", "rce"] = "mae",
    alpha: float = 1.0,
    beta: float = 1.0,
    gamma: float = 0.5,
    floor: float = 1e-4,
):
    """alpha * active + beta * passive, per sample. A normalised loss is L(p, y) / sum_k L(p, k), so that its sum over the classes is 1.

    Args:
        active: normalised cross entropy (nce) or focal loss (nfl), or either without normalisation, which is not robust.
        passive: 1 - p_y (mae, as the authors' code scales it) or reverse cross entropy (rce).
        alpha: >= 0; weight of the active part (1 for CIFAR-10, 10 for CIFAR-100 in the paper).
        beta: >= 0; weight of the passive part (1 for CIFAR-10, 0.1 for CIFAR-100).
        gamma: >= 0; focusing of nfl and focal.
        floor: in (0, 1); what stands for a label of 0 inside the logarithm of rce.
    """
    return lambda logits, target: label_loss(logits, target, active, passive, alpha=alpha, beta=beta, gamma=gamma, floor=floor)
