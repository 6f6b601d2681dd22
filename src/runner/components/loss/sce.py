"""Symmetric cross entropy: cross entropy, which fits, plus reverse cross entropy, which tolerates wrong labels."""

from runner import card
from runner.kernels import label_loss

CARD = card(
    paper="sce2019", arxiv="1908.06112",
    source="Wang et al. 2019, eq. 7; authors' code YisenWang/symmetric_cross_entropy_for_noisy_labels loss.py (log 0 = log 1e-4) and train_models.py",
    off={"alpha": 1.0, "beta": 0.0}, tasks=("classification", "language"),
)  # fmt: skip


def build(alpha: float = 0.1, beta: float = 1.0, floor: float = 1e-4):
    """alpha * CE(t, p) + beta * CE(p, t), per sample.

    Args:
        alpha: >= 0; weight of the cross entropy (0.1 for CIFAR-10, 6 for CIFAR-100, 0.01 for MNIST in the authors' code).
        beta: >= 0; weight of the reverse cross entropy (1 for CIFAR-10 and MNIST, 0.1 for CIFAR-100).
        floor: in (0, 1); what stands for a label of 0 inside the logarithm.
    """
    return lambda logits, target: label_loss(logits, target, "ce", "rce", alpha=alpha, beta=beta, floor=floor)
