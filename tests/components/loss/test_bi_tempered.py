"""Against the numbers of the authors' own test (google/bi-tempered-loss, tensorflow/loss_test.py), a root finder, and numerical gradients."""

import pytest
import torch
from scipy.optimize import brentq
from torch.nn import functional as F

from runner.components.loss.bi_tempered import build
from runner.kernels.tempered_softmax import tempered_softmax

Z = torch.tensor([[-0.5, 0.1, 2.0], [0.1, 1.5, -5.0], [4.0, -3.0, -6.0]])


def test_loss_values_of_the_authors():
    t = torch.tensor([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1], [0.2, 0.8, 0.0]])
    assert torch.allclose(build(0.5, 1.5)(Z, t), torch.tensor([0.02301914, 0.18972909, 0.93874922]), atol=1e-6)


@pytest.mark.parametrize(("t1", "t2", "want"), [(1.0, 1.0, 1.6583576), (0.9, 1.1, 0.45677936), (0.8, 1.2, 0.34298314), (0.7, 1.3, 0.26295574)])
def test_loss_values_of_the_authors_over_temperatures(t1, t2, want):
    if t1 == t2 == 1:
        want = -(torch.tensor([0.2, 0.5, 0.3]) * (Z[0].log_softmax(-1) - torch.tensor([0.2, 0.5, 0.3]).log())).sum().item()
    assert build(t1, t2)(Z[:1], torch.tensor([[0.2, 0.5, 0.3]])).item() == pytest.approx(want, abs=1e-5)


def test_tempered_softmax_of_the_authors():
    """Their five iterations leave sums of up to 1.002; the last step here takes off the excess, and no more."""
    want = [[0.3205458, 0.32714278, 0.3523402], [0.3430056, 0.36491093, 0.29220778], [0.41369352, 0.30534995, 0.28299212]]
    mine, theirs = tempered_softmax(Z, 4.0, 5), torch.tensor(want)
    assert ((mine - theirs).abs() <= theirs.sum(-1, keepdim=True) - 1).all()
    assert (mine.sum(-1) - 1).abs().max() < 2e-4


@pytest.mark.parametrize("t", [1.01, 1.2, 2.0, 4.0])
def test_normalisation_against_a_root_finder(t):
    z = 8 * torch.randn(6, 20, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    p = tempered_softmax(z, t, 20)
    assert torch.allclose(p.sum(-1), torch.ones(6, dtype=torch.double), atol=1e-8)
    for row, found in zip(z, p, strict=True):
        heavy = lambda level, row=row: (1 + (1 - t) * (row - level)).clamp_min(0) ** (1 / (1 - t))
        top = row.max().item()
        level = brentq(lambda v, heavy=heavy: heavy(v).sum().item() - 1, top, top + 1e6)
        assert torch.allclose(found, heavy(level), atol=1e-8)


def test_is_cross_entropy_at_temperatures_one():
    g = torch.Generator().manual_seed(1)
    z, y = 3 * torch.randn(20, 5, generator=g), torch.randint(5, (20,), generator=g)
    assert torch.allclose(build(1.0, 1.0)(z, y), F.cross_entropy(z, y, reduction="none"), atol=1e-5)


@pytest.mark.parametrize(("t1", "t2"), [(0.8, 1.2), (0.5, 1.0), (1.0, 1.5), (0.0, 2.0)])
def test_gradient_is_that_of_the_authors(t1, t2):
    """They derive it by hand: delta p^(t2-t1) minus the escort distribution times its sum."""
    g = torch.Generator().manual_seed(2)
    z = torch.randn(6, 4, generator=g, dtype=torch.double).requires_grad_()
    t = torch.softmax(torch.randn(6, 4, generator=g, dtype=torch.double), -1)
    loss = build(t1, t2, 30)
    (mine,) = torch.autograd.grad(loss(z, t).sum(), z)
    p = tempered_softmax(z.detach(), t2, 30)
    forget, escort = (p - t) * p ** (t2 - t1), p**t2 / (p**t2).sum(-1, keepdim=True)
    assert torch.allclose(mine, forget - escort * forget.sum(-1, keepdim=True), atol=1e-8)
    assert torch.autograd.gradcheck(lambda v: loss(v, t), (z,))


def test_targets_that_are_0_have_a_slope():
    t = torch.eye(3)[:2].requires_grad_()
    build(0.8, 1.2)(torch.randn(2, 3), t).sum().backward()
    assert torch.isfinite(t.grad).all()


def test_bounded_where_cross_entropy_is_not():
    z = torch.tensor([[1e4, 0.0]], requires_grad=True)
    value = build(0.8, 1.2)(z, torch.tensor([1]))
    value.sum().backward()
    assert 4 < value.item() < 5 + 1e-4  # at most 1 / (1 - t1), and 0 for 1 - sum p^(2 - t1) there
    assert torch.isfinite(z.grad).all()
