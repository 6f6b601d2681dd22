"""Self-attention with a normaliser of one's choice, written with plain matrix products so that it really is used; and its block."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from runner.core.errors import UserError


class Attention(nn.Module):
    """Multi-head self-attention (B, T, width) -> (B, T, width).

    Args:
        normaliser: () -> callable, scores (..., T) -> weights over the last dimension; called once, a module of its own becomes a part of this one,
            and its `heads` is 1 or the number of heads.
        causal: the longest sequence, where a position sees itself and those before it: the scores of later ones are -inf before the normaliser.
    """

    def __init__(self, width: int, heads: int, normaliser: Callable, causal: int | None = None):
        super().__init__()
        self.heads, self.normalise = heads, normaliser()
        if (own := getattr(self.normalise, "heads", 1)) not in (1, heads):
            raise UserError(f"softmax.heads={own} does not fit a model of {heads} heads: it takes 1 or {heads}")
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        mask = None if causal is None else torch.full((causal, causal), -math.inf).triu(1)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-2, -1) / math.sqrt(width // self.heads)
        if self.mask is not None:
            scores = scores + self.mask[:length, :length]
        mixed = self.normalise(scores) @ v
        return self.out(mixed.transpose(1, 2).reshape(batch, length, width))


class Layer(nn.Module):
    """x + attention(LN(x)), then x + MLP(LN(x)) with a hidden layer of four times the width and GELU: pre-norm."""

    def __init__(self, width: int, heads: int, normaliser: Callable, dropout: float = 0.0, causal: int | None = None):
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads, normaliser, causal)
        self.norm2, self.mlp = nn.LayerNorm(width), nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.drop = nn.Dropout(dropout) if dropout else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop(self.attention(self.norm1(x)))
        return x + self.drop(self.mlp(self.norm2(x)))


def check_heads(width: int, heads: int) -> None:
    if width % heads:
        raise ValueError(f"heads={heads} does not divide width={width}")
