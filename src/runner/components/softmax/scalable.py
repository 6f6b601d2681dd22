"""Scalable-softmax: scores times s log n, n the scores that a query sees, so that attention does not flatten in long contexts."""

import torch
from torch import nn

from runner import card

CARD = card(paper="ssmax2025", arxiv="2501.19399", source="Nakanishi 2025, definition, and the variant with a bias; s is learned with the weights")


class Scalable(nn.Module):
    def __init__(self, scale, heads, bias):
        super().__init__()
        self.heads = heads
        shape = (heads, 1, 1) if heads > 1 else ()
        self.scale = nn.Parameter(torch.full(shape, scale))
        self.bias = nn.Parameter(torch.zeros(shape)) if bias else 0.0

    def forward(self, scores):
        from runner.kernels import scalable_softmax

        return scalable_softmax(scores, self.scale, self.bias)


def build(scale: float = 0.43, heads: int = 1, bias: bool = False):
    """softmax((s log n + b) scores), with s and b learned for each layer; scores at -inf do not count into n.

    Args:
        scale: where s starts (0.43 in figure 1 of the paper).
        heads: >= 1; 1 shares s among the heads of a layer, else as many as the model has, each with its own.
        bias: learn b too, from 0.
    """
    return lambda: Scalable(scale, heads, bias)
