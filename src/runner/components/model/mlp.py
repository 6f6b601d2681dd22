"""Multi-layer perceptron: linear layers with ReLU between them."""

import math

from torch import nn

from runner import card

CARD = card(tasks=("classification", "regression"))


def build(width: int = 128, depth: int = 2, dropout: float = 0.0):
    """A perceptron over flattened inputs.

    Args:
        width: >= 1; units in a hidden layer.
        depth: >= 0; hidden layers; none leaves a linear model.
        dropout: in [0, 1); share of hidden units dropped in training.
    """

    def make(info, softmax):
        del softmax
        features, layers = math.prod(info.shape), [nn.Flatten()]
        for _ in range(depth):
            layers += [nn.Linear(features, width), nn.ReLU(), *([nn.Dropout(dropout)] if dropout else [])]
            features = width
        return nn.Sequential(*layers, nn.Linear(features, info.outputs))

    return make
