"""Sparsemax, entmax-1.5 and entmax as normalisers of attention: against the `entmax` package, also under a causal mask, and inside a model."""

import entmax as peer
import pytest
import torch

from runner.components.softmax import entmax, entmax15, softmax, sparsemax

OPTIONS = {
    "sparsemax": (sparsemax.build(), peer.sparsemax),
    "entmax15": (entmax15.build(), peer.entmax15),
    "entmax-1.2": (entmax.build(1.2), lambda x: peer.entmax_bisect(x, 1.2)),
    "entmax-1.5": (entmax.build(1.5), peer.entmax15),
    "entmax-2": (entmax.build(2.0), peer.sparsemax),
    "entmax-4": (entmax.build(4.0), lambda x: peer.entmax_bisect(x, 4.0)),
}
each = pytest.mark.parametrize("option", OPTIONS)


@each
def test_values_and_gradients_of_the_peer(option):
    factory, other = OPTIONS[option]
    g = torch.Generator().manual_seed(0)
    for scale in (0.1, 1.0, 10.0):
        x = (scale * torch.randn(2, 3, 17, generator=g, dtype=torch.double)).requires_grad_()
        mine, theirs = factory()(x), other(x)
        assert torch.allclose(mine, theirs, atol=1e-6)
        v = torch.randn(2, 3, 17, generator=g, dtype=torch.double)
        assert torch.allclose(*(torch.autograd.grad((y * v).sum(), x, retain_graph=True)[0] for y in (mine, theirs)), atol=1e-5)


@each
def test_a_causal_mask_is_the_same_as_shorter_rows(option):
    """Scores of -inf get no weight and no gradient, and the others what they get without them."""
    factory, other = OPTIONS[option]
    g = torch.Generator().manual_seed(1)
    scores = (2 * torch.randn(2, 9, 9, generator=g, dtype=torch.double)).requires_grad_()
    weights = factory()(scores + torch.full((9, 9), -torch.inf).triu(1))
    weights.square().sum().backward()
    assert torch.isfinite(scores.grad).all()
    for t in range(9):
        assert torch.allclose(weights[:, t, : t + 1], other(scores[:, t, : t + 1]), atol=1e-6)
        assert (weights[:, t, t + 1 :] == 0).all()
        assert (scores.grad[:, t, t + 1 :] == 0).all()


@each
def test_weights_are_a_distribution_and_larger_scores_weigh_more(option):
    weights = OPTIONS[option][0]()(torch.linspace(-4, 4, 33))
    assert weights.sum() == pytest.approx(1, abs=1e-5)
    assert (weights.diff() >= 0).all()


def test_sparser_with_alpha_and_flatter_with_temperature():
    x = torch.linspace(-2, 2, 64)
    support = lambda factory: int((factory()(x) > 0).sum())
    sizes = [support(f) for f in (softmax.build(), entmax.build(1.2), entmax15.build(), sparsemax.build(), entmax.build(4.0))]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 5
    assert support(sparsemax.build(4.0)) > support(sparsemax.build())
    assert torch.allclose(entmax15.build(0.5)()(x), peer.entmax15(2 * x), atol=1e-6)


@pytest.mark.parametrize("option", [sparsemax, entmax15, entmax])
def test_attention_uses_it(option):
    from runner.components.model._attention import Attention

    torch.manual_seed(0)
    attention = Attention(8, 2, option.build(temperature=0.05), causal=6)
    seen = []
    inner = attention.normalise
    attention.normalise = lambda scores: seen.append(inner(scores)) or seen[-1]
    out = attention(torch.randn(3, 6, 8))
    assert torch.isfinite(out).all()
    assert seen[0].shape == (3, 2, 6, 6)
    assert (seen[0].tril() == 0).sum() > (torch.ones(3, 2, 6, 6).tril() == 0).sum()  # zeros also where attention is allowed
