"""Cross entropy, the baseline of every robust loss; class indices or probabilities as targets."""

from torch.nn import functional as F

from runner import card
from runner.core.targets import expected, is_hard

CARD = card(tasks=("classification", "language"))


def build():
    """-sum_c t_c log p_c, per sample."""

    def loss(logits, target):  # (..., C), (...) or (..., C) -> (...)
        if is_hard(target) and logits.dim() == 2:
            return F.cross_entropy(logits, target, reduction="none")
        return -expected(logits.log_softmax(-1), target)

    return loss
