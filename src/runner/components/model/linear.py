"""A linear model: logistic or least-squares regression on the flattened inputs."""

import math

from torch import nn

from runner import card

CARD = card(tasks=("classification", "regression"))


def build(bias: bool = True, zero: bool = False):
    """One linear layer; the problem is convex under a convex loss.

    Args:
        bias: with a bias for each output.
        zero: start from zero weights rather than torch's uniform in +-1 / sqrt(features).
    """

    def make(info, softmax):
        del softmax
        layer = nn.Linear(math.prod(info.shape), info.outputs, bias)
        if zero:
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)
        return nn.Sequential(nn.Flatten(), layer)

    return make
