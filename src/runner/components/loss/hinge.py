"""Hinge loss of several classes: how far the label's score is from being one above the best of the others."""

import torch
from torch.nn import functional as F

from runner import card
from runner.core.targets import expected, is_hard

CARD = card(
    paper="crammersinger2001", source="Crammer & Singer 2001, section 3; with weight decay a support vector machine", tasks=("classification", "language")
)


def build():
    """max(0, 1 + max_{c != y} z_c - z_y), per sample; of soft targets the mean over labels drawn from them."""

    def loss(logits, target):
        best, at = F.pad(logits, (0, 1), value=-torch.inf).topk(2)  # a single class has no rival
        classes = torch.arange(logits.shape[-1], device=logits.device)
        rival = torch.where(classes == at[..., :1], best[..., 1:], best[..., :1])  # (..., C): the best of the others
        losses = F.relu(1 + rival - logits)
        return expected(losses if is_hard(target) else losses.where(target != 0, 0), target)  # an absent class, of logit -inf, would cost infinitely much

    return loss
