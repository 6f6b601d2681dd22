"""Logistic regression, as the weak or cheap model beside the one that is trained."""

import torch
from torch import Tensor
from torch.nn import functional as F


def regression(x: Tensor, y: Tensor, classes: int, decay: float = 1e-3):
    """Weights (d, C) and biases (C,) of a logistic regression that minimises mean cross entropy + decay / 2 |weights|^2."""
    weight, bias = (torch.zeros(shape, device=x.device, requires_grad=True) for shape in ((x.shape[1], classes), (classes,)))
    solver = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        solver.zero_grad()
        loss = F.cross_entropy(x @ weight + bias, y) + decay / 2 * weight.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        solver.step(closure)
    return weight.detach(), bias.detach()
