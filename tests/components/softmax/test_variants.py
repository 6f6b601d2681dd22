"""Sparse top-k, scalable, self-adjust, stablemax, top-n-sigma and adaptive temperature as normalisers of attention."""

import math

import pytest
import torch

from runner import UserError
from runner.components.model._attention import Attention
from runner.components.softmax import adaptive_temperature, scalable, self_adjust, softmax, sparse_topk, stablemax, top_n_sigma

OPTIONS = {
    "sparse_topk": sparse_topk.build(3),
    "scalable": scalable.build(0.6),
    "scalable-heads": scalable.build(0.6, heads=2, bias=True),
    "self_adjust": self_adjust.build(),
    "self_adjust-plain": self_adjust.build(normalise=False),
    "stablemax": stablemax.build(0.5),
    "top_n_sigma": top_n_sigma.build(1.0),
    "adaptive": adaptive_temperature.build(always=True),
}
each = pytest.mark.parametrize("option", OPTIONS)


@each
def test_a_causal_mask_is_the_same_as_shorter_rows(option):
    """Scores of -inf get no weight and no gradient, and the others what they get without them; n, sigma and entropy are over those."""
    normalise = OPTIONS[option]()
    if isinstance(normalise, torch.nn.Module):
        normalise.double()
    g = torch.Generator().manual_seed(1)
    scores = (2 * torch.randn(3, 2, 9, 9, generator=g, dtype=torch.double)).requires_grad_()
    weights = normalise(scores + torch.full((9, 9), -torch.inf).triu(1))
    weights.square().sum().backward()
    assert torch.isfinite(scores.grad).all()
    for t in range(9):
        assert torch.allclose(weights[:, :, t : t + 1, : t + 1], normalise(scores[:, :, t : t + 1, : t + 1]), atol=1e-9)
        assert not weights[:, :, t, t + 1 :].any()
        assert not scores.grad[:, :, t, t + 1 :].any()


@each
def test_attention_trains_with_it(option):
    torch.manual_seed(0)
    attention = Attention(8, 2, OPTIONS[option], causal=6)
    out = attention(torch.randn(3, 6, 8))
    out.square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in attention.parameters())


def test_off_is_the_softmax():
    scores = torch.randn(2, 2, 5, 7, generator=torch.Generator().manual_seed(0))
    plain = softmax.build()()(scores)
    for factory in (sparse_topk.build(7), scalable.build(1 / math.log(7)), top_n_sigma.build(1e6), adaptive_temperature.build(1e6, always=True)):
        assert torch.allclose(factory()(scores), plain, atol=1e-6)


def test_sparse_topk_keeps_k():
    weights = sparse_topk.build(3, temperature=2.0)()(torch.randn(4, 10))
    assert ((weights > 0).sum(-1) == 3).all()
    assert torch.allclose(weights.sum(-1), torch.ones(4))


def test_scalable_learns_a_scale_for_each_layer_or_head():
    one, many = scalable.build()(), scalable.build(heads=2, bias=True)()
    assert [p.shape for p in one.parameters()] == [()]
    assert [p.shape for p in many.parameters()] == [(2, 1, 1)] * 2
    z = torch.full((1, 2, 3, 64), -2.0)
    z[..., 5] = 3
    with torch.no_grad():
        many.scale[1] = 0
        many.bias[1] = 1
        weights = many(z)
    assert torch.allclose(weights[0, 0], (0.43 * math.log(64) * z[0, 0]).softmax(-1))
    assert torch.allclose(weights[0, 1], z[0, 1].softmax(-1))


def test_heads_that_the_model_has_not_are_said_when_it_is_made():
    with pytest.raises(UserError, match=r"softmax\.heads=3 does not fit a model of 2 heads"):
        Attention(8, 2, scalable.build(heads=3))


def test_top_n_sigma_drops_the_noise_and_temperature_does_not_bring_it_back():
    scores = torch.cat([torch.randn(200, generator=torch.Generator().manual_seed(0)), torch.tensor([8.0, 7.5])])
    for temperature in (0.5, 1.0, 4.0):
        weights = top_n_sigma.build(1.0, temperature)()(scores)
        assert weights.nonzero().flatten().tolist() == [200, 201]


def test_adaptive_temperature_sharpens_trained_attention_only():
    scores = torch.linspace(0, 3, 16).repeat(2, 1)
    normalise, plain = adaptive_temperature.build()(), scores.softmax(-1)
    assert torch.allclose(normalise(scores), plain)
    assert (normalise.eval()(scores)[:, -1] > 1.2 * plain[:, -1]).all()
