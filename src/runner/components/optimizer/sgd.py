"""Stochastic gradient descent with momentum and weight decay."""

import torch

from runner import card
from runner.components.optimizer._eager import eager

CARD = card()
SGD = eager(torch.optim.SGD)


def build(lr: float = 0.05, momentum: float = 0.9, weight_decay: float = 0.0, nesterov: bool = False):
    """torch.optim.SGD.

    Args:
        lr: > 0; learning rate.
        momentum: in [0, 1); heavy-ball momentum.
        weight_decay: >= 0; added to the gradient as weight_decay * weight.
        nesterov: look ahead along the momentum; needs a momentum.
    """
    if nesterov and not momentum:
        raise ValueError("nesterov=true needs a momentum above 0")
    return lambda parameters: SGD(parameters, lr, momentum, weight_decay=weight_decay, nesterov=nesterov)
