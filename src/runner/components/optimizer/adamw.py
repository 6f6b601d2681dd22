"""AdamW: Adam with weight decay apart from the gradient's statistics."""

import torch

from runner import card
from runner.components.optimizer._eager import eager

CARD = card(paper="adamw2019", arxiv="1711.05101", source="Loshchilov & Hutter 2019, algorithm 2")
AdamW = eager(torch.optim.AdamW)


def build(lr: float = 1e-3, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8, weight_decay: float = 0.01):
    """torch.optim.AdamW.

    Args:
        lr: > 0; learning rate.
        beta1: in [0, 1); memory of the gradient.
        beta2: in [0, 1); memory of its square.
        eps: > 0; added to the root.
        weight_decay: >= 0; share lr * weight_decay by which every step shrinks the weights.
    """
    return lambda parameters: AdamW(parameters, lr, (beta1, beta2), eps, weight_decay)
