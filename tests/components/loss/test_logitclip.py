import math

import pytest
import torch
from torch.nn import functional as F

from runner.components.loss.logitclip import build

Y = torch.tensor([0, 1, 2, 3, 0, 1])


@pytest.fixture
def z():
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


def test_small_logits_are_left_alone_bit_for_bit(z):
    z = 0.5 * z / z.norm(dim=-1, keepdim=True)
    assert torch.equal(build(0.6)(z, Y), F.cross_entropy(z, Y, reduction="none"))


def test_large_logits_count_by_their_direction_alone(z):
    z = (5 * z / z.norm(dim=-1, keepdim=True)).requires_grad_()
    loss = build(2.0)(z, Y)
    assert torch.allclose(loss, F.cross_entropy(0.4 * z, Y, reduction="none"), atol=1e-6)
    assert torch.allclose(loss, build(2.0)(7 * z, Y), atol=1e-6)
    (slope,) = torch.autograd.grad(loss.sum(), z)
    assert (slope * z).sum(-1).abs().max() < 1e-5  # no slope along the logits themselves
    assert slope.abs().max() > 1e-3


def test_the_loss_is_bounded():
    """Wei et al., lemma 1 for p = inf: between log(1 + (C - 1) e^(-2 tau)) and log(1 + (C - 1) e^(2 tau)), both attained."""
    z = torch.tensor([[-100.0, 100.0, 100.0], [100.0, -100.0, -100.0]])
    low, high = (math.log(1 + 2 * math.exp(s * 2 * 1.5)) for s in (-1, 1))
    assert build(1.5, float("inf"))(z, torch.tensor([0, 0])).tolist() == pytest.approx([high, low], rel=1e-5)


def test_logits_of_zero_have_a_finite_slope():
    z = torch.zeros(1, 3, requires_grad=True)
    build()(z, torch.tensor([0])).sum().backward()
    assert torch.allclose(z.grad, torch.tensor([[-2 / 3, 1 / 3, 1 / 3]]))
