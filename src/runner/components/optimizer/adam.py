"""Adam: steps scaled by running means of the gradient and its square; weight decay added to the gradient."""

import torch

from runner import card
from runner.components.optimizer._eager import eager

CARD = card(paper="adam2015", arxiv="1412.6980", source="Kingma & Ba 2015, algorithm 1")
Adam = eager(torch.optim.Adam)


def build(lr: float = 1e-3, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8, weight_decay: float = 0.0):
    """torch.optim.Adam.

    Args:
        lr: > 0; learning rate.
        beta1: in [0, 1); memory of the gradient.
        beta2: in [0, 1); memory of its square.
        eps: > 0; added to the root.
        weight_decay: >= 0; added to the gradient as weight_decay * weight.
    """
    return lambda parameters: Adam(parameters, lr, (beta1, beta2), eps, weight_decay)
