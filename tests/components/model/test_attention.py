"""Attention: with the softmax it is torch's own; a normaliser of one's choice is used, once a layer, and sees -inf for later positions."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from runner.components.model._attention import Attention, Layer, check_heads

softmax = lambda: lambda scores: scores.softmax(-1)


def torchs(attention, x, causal):
    batch, length, width = x.shape
    q, k, v = (part.view(batch, length, attention.heads, -1).transpose(1, 2) for part in attention.qkv(x).chunk(3, -1))
    return attention.out(F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2).reshape(batch, length, width))


@pytest.mark.parametrize("causal", [None, 9])
def test_softmax_attention_is_torchs(causal):
    torch.manual_seed(0)
    attention, x = Attention(24, 3, softmax, causal).double(), torch.randn(2, 7, 24).double()
    assert torch.allclose(attention(x), torchs(attention, x, causal is not None), atol=1e-12)


def test_a_layer_is_torchs_encoder_layer():
    torch.manual_seed(0)
    ours, theirs = Layer(16, 4, softmax).double(), nn.TransformerEncoderLayer(16, 4, 64, 0.0, F.gelu, batch_first=True, norm_first=True).double()
    theirs.self_attn.in_proj_weight.data, theirs.self_attn.in_proj_bias.data = ours.attention.qkv.weight.data, ours.attention.qkv.bias.data
    for a, b in ((ours.attention.out, theirs.self_attn.out_proj), (ours.mlp[0], theirs.linear1), (ours.mlp[2], theirs.linear2)):
        b.load_state_dict(a.state_dict())
    x = torch.randn(3, 5, 16).double()
    assert torch.allclose(ours(x), theirs(x), atol=1e-12)


def test_the_normaliser_is_asked_for_once_and_decides():
    seen = []

    class Uniform(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))
            seen.append(self)

        def forward(self, scores):
            assert torch.equal(scores.isinf(), torch.full(scores.shape[-2:], 1.0).triu(1).bool().expand(scores.shape))
            assert scores[scores.isinf()].max() == -math.inf
            kept = ~scores.isinf()
            return self.weight * kept / kept.sum(-1, keepdim=True)

    torch.manual_seed(0)
    attention, x = Attention(8, 2, Uniform, 6), torch.randn(2, 6, 8)
    attention(x)
    out = attention(x)
    assert len(seen) == 1
    assert "normalise.weight" in dict(attention.named_parameters())
    values = attention.qkv(x)[..., 16:]
    means = values.cumsum(1) / torch.arange(1, 7).view(1, -1, 1)
    assert torch.allclose(out, attention.out(means), atol=1e-6)


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="heads=3"):
        check_heads(16, 3)
