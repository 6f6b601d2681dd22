"""Multi-layer perceptron: linear layers with ReLU between them."""

import math

from torch import nn
from torch.nn import functional as F

from runner import card
from runner.components.model._language import predicted

CARD = card()


class OneHot(nn.Module):
    """Tokens (B, T) to their one-hot rows (B, T, V), or all rows of a sequence side by side (B, 1, T V)."""

    def __init__(self, vocabulary: int, whole: bool):
        super().__init__()
        self.vocabulary, self.whole = vocabulary, whole

    def forward(self, x):
        rows = F.one_hot(x, self.vocabulary).float()
        return rows.flatten(1).unsqueeze(1) if self.whole else rows


def build(width: int = 128, depth: int = 2, dropout: float = 0.0):
    """A perceptron over flattened inputs. Tokens are one-hot: where one answer is asked for it sees the whole sequence, else each token alone.

    Args:
        width: >= 1; units in a hidden layer.
        depth: >= 0; hidden layers; none leaves a linear model.
        dropout: in [0, 1); share of hidden units dropped in training.
    """

    def make(info, softmax):
        del softmax
        features, layers = math.prod(info.shape), [nn.Flatten()]
        if info.task == "language":
            whole = predicted(info) == 1
            features, layers = info.outputs * (features if whole else 1), [OneHot(info.outputs, whole)]
        for _ in range(depth):
            layers += [nn.Linear(features, width), nn.ReLU(), *([nn.Dropout(dropout)] if dropout else [])]
            features = width
        return nn.Sequential(*layers, nn.Linear(features, info.outputs))

    return make
