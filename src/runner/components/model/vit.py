"""Small vision transformer: patches as tokens, attention with the normaliser of group `softmax`."""

import math
from typing import Literal

import torch
from torch import nn

from runner import UserError, card
from runner.components.model._attention import Attention, Layer, check_heads

CARD = card(paper="vit2021", arxiv="2010.11929", source="section 3.1; initialisation of google-research/vision_transformer, models_vit.py", images=True)
CUT = 0.87962566103423978  # deviation of a standard normal that is cut off at -2 and 2


class ViT(nn.Module):
    def __init__(self, info, normaliser, patch, width, depth, heads, pool, dropout):
        super().__init__()
        channels, height, wide = info.shape
        if height % patch or wide % patch:
            raise UserError(f"model=vit: patch={patch} does not divide images of {height}x{wide}")
        tokens = (height // patch) * (wide // patch) + (pool == "token")
        self.patches = nn.Conv2d(channels, width, patch, patch)
        self.token = nn.Parameter(torch.zeros(1, 1, width)) if pool == "token" else None
        self.positions = nn.Parameter(0.02 * torch.randn(1, tokens, width))
        self.layers = nn.Sequential(*(Layer(width, heads, normaliser, dropout) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, info.outputs)
        self.drop = nn.Dropout(dropout) if dropout else nn.Identity()
        self.initialise()

    @torch.no_grad()
    def initialise(self) -> None:
        """Patches LeCun normal, projections Xavier uniform, MLP biases N(0, 1e-6^2), class token, head and other biases zero."""
        whole = 1 / math.sqrt(self.patches.weight[0].numel()) / CUT  # what is left of it has a variance of 1 / inputs
        nn.init.trunc_normal_(self.patches.weight, std=whole, a=-2 * whole, b=2 * whole)
        nn.init.zeros_(self.patches.bias)
        for module in self.layers.modules():
            if isinstance(module, Attention):
                for part in (*module.qkv.weight.chunk(3), module.out.weight):
                    nn.init.xavier_uniform_(part)
                module.qkv.bias.zero_()
                module.out.bias.zero_()
            elif isinstance(module, Layer):
                for linear in (module.mlp[0], module.mlp[2]):
                    nn.init.xavier_uniform_(linear.weight)
                    nn.init.normal_(linear.bias, std=1e-6)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        if self.token is not None:
            x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        x = self.norm(self.layers(self.drop(x + self.positions)))
        return self.head(x[:, 0] if self.token is not None else x.mean(1))


def build(patch: int = 4, width: int = 64, depth: int = 4, heads: int = 4, pool: Literal["token", "mean"] = "token", dropout: float = 0.0):
    """A transformer encoder, pre-norm, learned positions; ViT-B is patch=16 width=768 depth=12 heads=12.

    Args:
        patch: >= 1; pixels of a side of a patch; it must divide the image.
        width: >= 1; size of a token; the MLP has four times as many units.
        depth: >= 1; layers.
        heads: >= 1; attention heads; they must divide the width.
        pool: classify the class token, or the mean over the patches.
        dropout: in [0, 1); after the positions, the attention and the MLP.
    """
    check_heads(width, heads)
    return lambda info, normaliser: ViT(info, normaliser, patch, width, depth, heads, pool, dropout)
