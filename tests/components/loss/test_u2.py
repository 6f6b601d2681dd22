"""Its gradient: the paper's by hand; and unbiased, in that lowering labels that lie below anyway changes nothing."""

import torch

from runner.components.loss import l1, u2

G = torch.Generator().manual_seed(0)
X, W = torch.randn(4000, 3, generator=G, dtype=torch.float64), torch.tensor([[1.0], [-2.0], [0.5]], dtype=torch.float64)


def gradient(loss, w, y):
    w = w.clone().requires_grad_()
    (g,) = torch.autograd.grad(loss(X @ w, y).mean(), w)
    return g


def test_gradient_by_hand():
    w = torch.randn(3, 1, generator=G, dtype=torch.float64)
    y = X @ W + torch.randn(4000, 1, generator=G, dtype=torch.float64)
    up = (y > X @ w)[:, 0]
    for share in (0.5, 0.3):
        wanted = X.mean(0) - 2 * share * X[up].mean(0)
        assert torch.allclose(gradient(u2.build(share), w, y)[:, 0], wanted)


def test_incomplete_observations_do_not_bias_it():
    """At the true weights, where a complete label lies above for half of the samples, lowering a random half of the labels leaves the gradient at zero."""
    y = X @ W + torch.randn(4000, 1, generator=G, dtype=torch.float64)
    low = y - 3 * torch.randn(4000, 1, generator=G, dtype=torch.float64).abs() * (torch.rand(4000, 1, generator=G) < 0.5)
    clean, lowered = (gradient(u2.build(), W, labels).norm() for labels in (y, low))
    assert clean < 0.06
    assert lowered < 0.08  # five deviations of a mean over the 1,400 samples that still lie above
    centred = X + 0.5  # with a mean, absolute error is pulled down and U2 is not
    residual = lambda labels: (labels - X @ W).sign()
    assert abs((centred * residual(low)).mean()) > 5 * abs((centred * residual(y)).mean())


def test_where_nothing_is_incomplete_it_is_absolute_error():
    y = X @ W + torch.randn(4000, 1, generator=G, dtype=torch.float64)
    w = W + 0.01
    share = (y > X @ w).double().mean().item()
    assert torch.allclose(gradient(u2.build(share), w, y), gradient(l1.build(), w, y), atol=1e-9)


def test_a_batch_of_one_and_of_none_above():
    for y in (-1.0, 1.0):
        z = torch.zeros(1, 1, requires_grad=True)
        (g,) = torch.autograd.grad(u2.build()(z, torch.full((1, 1), y)).sum(), z)
        assert torch.isfinite(g).all()
