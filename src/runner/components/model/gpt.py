"""Small decoder-only transformer: learned positions, pre-norm, causal attention with the normaliser of group `softmax`."""

import math

from torch import nn
from torch.nn import functional as F

from runner import card
from runner.components.model._attention import Layer, check_heads

CARD = card(
    paper="gpt2019",
    source="Radford et al. 2019, Language models are unsupervised multitask learners, section 2.3; N(0, 0.02^2) of Radford et al. 2018",
    tasks=("language",),
)


class GPT(nn.Module):
    def __init__(self, info, normaliser, width, depth, heads, tied, dropout):
        super().__init__()
        length = info.shape[0]
        self.predicted = info.predicted or length
        self.tokens, self.positions = nn.Embedding(info.outputs, width), nn.Embedding(length, width)
        self.layers = nn.Sequential(*(Layer(width, heads, normaliser, dropout, causal=length) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), None if tied else nn.Linear(width, info.outputs, bias=False)
        self.drop = nn.Dropout(dropout) if dropout else nn.Identity()
        self.apply(self.initialise)
        for layer in self.layers:
            for linear in (layer.attention.out, layer.mlp[2]):
                nn.init.normal_(linear.weight, std=0.02 / math.sqrt(2 * depth))

    @staticmethod
    def initialise(module: nn.Module) -> None:
        """Weights N(0, 0.02^2), biases zero; those that write into the residual stream smaller by sqrt of their number."""
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
            if getattr(module, "bias", None) is not None:
                nn.init.zeros_(module.bias)

    def forward(self, x):
        x = self.tokens(x) + self.positions.weight[: x.shape[1]]
        x = self.norm(self.layers(self.drop(x))[:, -self.predicted :])
        return F.linear(x, self.tokens.weight) if self.head is None else self.head(x)


def build(width: int = 128, depth: int = 2, heads: int = 4, tied: bool = False, dropout: float = 0.0):
    """Tokens (B, T) to logits (B, T, V), or (B, k, V) where the data asks for the last k positions only.

    Args:
        width: >= 1; size of a token; the MLP has four times as many units.
        depth: >= 1; layers (2 layers of width 128 with 4 heads in Power et al. 2022).
        heads: >= 1; attention heads; they must divide the width.
        tied: the output layer is the embedding.
        dropout: in [0, 1); after the embedding, the attention and the MLP.
    """
    check_heads(width, heads)
    return lambda info, normaliser: GPT(info, normaliser, width, depth, heads, tied, dropout)
