"""Multi-layer perceptron: linear layers with ReLU, or a rectifier whose bends and slopes are learned, between them."""

import math
from typing import Literal

import torch
from torch import nn

from runner import card

CARD = card(
    source="srelu: Jin et al. 2016 (1512.07030), eq. 1; where its bends and slopes start: keras-team/keras-contrib, advanced_activations/srelu.py",
    tasks=("classification", "regression"),
)


class SReLU(nn.Module):
    """Each unit: x between two bends, a slope of its own below the left one and above the right one, all four learned."""

    def __init__(self, units: int):
        super().__init__()
        self.left, self.width = nn.Parameter(torch.zeros(units)), nn.Parameter(5 * torch.rand(units))
        self.below, self.above = nn.Parameter(torch.rand(units)), nn.Parameter(torch.ones(units))

    def forward(self, x):
        right = self.left + self.width.abs()
        middle = torch.minimum(torch.maximum(x, self.left), right)
        return middle + self.below * (x - self.left).clamp_max(0) + self.above * (x - right).clamp_min(0)


def build(width: int = 128, depth: int = 2, dropout: float = 0.0, widths: list[int] | None = None, activation: Literal["relu", "srelu"] = "relu"):
    """A perceptron over flattened inputs.

    Args:
        width: >= 1; units in a hidden layer.
        depth: >= 0; hidden layers; none leaves a linear model.
        dropout: in [0, 1); share of hidden units dropped in training.
        widths: >= 1; units of each hidden layer, in place of width and depth.
        activation: relu, or srelu, piecewise linear in three pieces with learned bends and slopes.
    """

    def make(info, softmax):
        del softmax
        features, layers = math.prod(info.shape), [nn.Flatten()]
        for units in [width] * depth if widths is None else widths:
            bend = nn.ReLU() if activation == "relu" else SReLU(units)
            layers += [nn.Linear(features, units), bend, *([nn.Dropout(dropout)] if dropout else [])]
            features = units
        return nn.Sequential(*layers, nn.Linear(features, info.outputs))

    return make
