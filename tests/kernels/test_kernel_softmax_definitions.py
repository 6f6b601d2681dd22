"""Softmaxes of attention and samplers, one by one: definitions, closed forms and claims of their papers."""

import math
from functools import partial

import pytest
import torch

from runner.kernels import (
    adaptive_softmax,
    dispatch,
    scalable_softmax,
    self_adjust_softmax,
    softmax,
    sparse_topk_softmax,
    stablemax,
    top_n_sigma_mask,
    top_n_sigma_softmax,
    topk_softmax,
)
from runner.kernels.adaptive_softmax import POLYNOMIAL

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.fixture(params=["reference", "triton"])
def backend(request):
    with dispatch.backend(request.param):
        yield request.param


# sparse top-k


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("cols", "k"), [(1, 1), (3, 3), (8, 2), (127, 5), (300, 100), (64, 64)])
def test_sparse_topk_is_topk_scattered(dtype, cols, k, backend, device):
    """With ties, which go to the lowest index."""
    x = (torch.randint(-20, 20, (5, cols), device=device) / 8).to(dtype)
    y = sparse_topk_softmax(x, k, temperature=0.9)
    with dispatch.backend("reference"):
        values, best = topk_softmax(x, k, temperature=0.9, renormalise=True)
    assert torch.equal(y > 0, torch.zeros_like(x).scatter(-1, best, 1) > 0)
    torch.testing.assert_close(y, torch.zeros_like(x).scatter(-1, best, values), rtol=1e-2, atol=1e-6)


def test_sparse_topk_ends(backend, device):
    x = torch.tensor([[0.0, -0.0, -1e4, 1.0, -torch.inf]], device=device)
    assert sparse_topk_softmax(x, 1).tolist() == [[0, 0, 0, 1, 0]]
    assert (sparse_topk_softmax(x, 2) > 0).tolist() == [[True, False, False, True, False]]  # 0 and -0 are equal
    torch.testing.assert_close(sparse_topk_softmax(x, 5), softmax(x))
    assert (sparse_topk_softmax(torch.zeros(2, 9, device=device), 4) > 0).sum(-1).tolist() == [4, 4]
    assert (sparse_topk_softmax(torch.full((1, 9), -3.5, device=device), 4)[0] > 0).tolist() == [True] * 4 + [False] * 5
    for k in (0, 6):
        with pytest.raises(ValueError, match="k must lie"):
            sparse_topk_softmax(x, k)
    with pytest.raises(ValueError, match="temperature"):
        sparse_topk_softmax(x, 1, temperature=0)


# scalable


def test_scalable_softmax_is_a_power_of_the_length(backend, device):
    """n^(s z) over its sum; the first figure's vector keeps its maximum near 1 for every length."""
    x = torch.randn(3, 50, device=device)
    y = 50 ** (0.3 * x)
    torch.testing.assert_close(scalable_softmax(x, 0.3), y / y.sum(-1, keepdim=True))
    torch.testing.assert_close(scalable_softmax(x, 0.0, 1.0), x.softmax(-1))
    torch.testing.assert_close(scalable_softmax(x, -1 / math.log(50)), (-x).softmax(-1))
    for n in (10, 100, 1000):
        z = torch.full((n,), -2.0, device=device)
        z[-1] = 3
        assert scalable_softmax(z, 0.43)[-1] > 0.9
    z[100:999] = -torch.inf  # counts those that are left
    assert scalable_softmax(z, 0.43)[-1] == pytest.approx(1 / (1 + 100 * 101 ** (-0.43 * 5)), rel=1e-4)


def test_scalable_softmax_learns_scale_and_bias(device):
    x = torch.randn(2, 3, 4, 6)
    x[..., 0, 2:], x[..., 1, :] = -torch.inf, -torch.inf
    found = []
    for choice, dtype in (("reference", torch.float64), ("triton", torch.float32)):
        z = x.to(device, dtype).requires_grad_()
        s = torch.tensor([0.2, -0.5, 0.4], dtype=dtype, device=device).view(3, 1, 1).requires_grad_()
        bias = torch.tensor(0.3, dtype=dtype, device=device, requires_grad=True)
        with dispatch.backend(choice):
            y = scalable_softmax(z, s, bias)
        (y * torch.linspace(0, 1, 6, device=device, dtype=dtype)).square().sum().backward()
        found += [[v.double() for v in (y, z.grad, s.grad, bias.grad)]]
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    z, s, bias = (torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in [(3, 5), (3, 1), ()])
    assert torch.autograd.gradcheck(scalable_softmax, (z, s, bias))
    assert torch.autograd.gradgradcheck(lambda z, s, b: scalable_softmax(z.T, s.T, b, dim=0), (z, s, bias))
    with pytest.raises(ValueError, match="size 1"):
        scalable_softmax(z, s.T)


# self-adjust


def test_self_adjust_softmax_is_its_definition(backend, device):
    x = torch.tensor([[1.0, -2.0, 0.5, -torch.inf], [3.0, 1.0, 2.0, 4.0], [-1.0, -2.0, -3.0, -3.0], [0.0] * 4], device=device)
    p = x.softmax(-1)
    torch.testing.assert_close(self_adjust_softmax(x, normalise=False), x.masked_fill(x == -torch.inf, 0) * p)
    low, high = torch.tensor([[-2.0], [0], [-3], [0]], device=device), torch.tensor([[1.0], [4], [0], [1]], device=device)
    torch.testing.assert_close(self_adjust_softmax(x), (x.masked_fill(x == -torch.inf, 0) - low) / (high - low) * p)


def test_self_adjust_softmax_keeps_a_gradient_where_the_softmax_saturates(backend, device):
    x = torch.tensor([20.0, 0, 0, 0], device=device, requires_grad=True)
    slope = lambda f: torch.autograd.grad(f(x)[0], x)[0][0]
    assert slope(softmax) < 1e-6
    assert slope(partial(self_adjust_softmax, normalise=False)) == pytest.approx(1, abs=1e-3)


def test_self_adjust_gradient_is_shared_between_ties(parity, device):
    x = torch.tensor([[2.0, 2.0, -1.0, -1.0, -1.0, 0.0], [0.0] * 6, [1.0] * 6, [-1.0] * 6], device=device)
    parity("self_adjust_softmax", self_adjust_softmax, x)


# stablemax


def test_stablemax_is_its_definition(backend, device):
    x = torch.tensor([[1.0, -1.0, 0.0, 3.0, -torch.inf]], device=device, requires_grad=True)
    y = stablemax(x)
    torch.testing.assert_close(y, torch.tensor([[2.0, 0.5, 1.0, 4.0, 0.0]], device=device) / 7.5)
    y[0, 0].backward()  # at x = 1, where the gradient of the definition in torch.where is NaN
    torch.testing.assert_close(x.grad, torch.tensor([[5.5, -0.5, -2, -2, 0]], device=device) / 7.5**2)


def test_stablemax_is_not_absorbed(backend, device):
    """A gap of 20 in float32: the loss of the softmax and its gradient are exactly 0, those of stablemax are not."""
    x = torch.tensor([20.0, 0.0], device=device, requires_grad=True)
    for f, dead in ((softmax, True), (stablemax, False)):
        loss = -f(x)[0].log()
        assert (loss == 0) == dead
        assert (torch.autograd.grad(loss, x)[0][0] == 0) == dead


# top-n-sigma


def test_top_n_sigma_mask(backend, device):
    x = torch.randn(5, 200, device=device)
    keep = x >= x.amax(-1, keepdim=True) - 1.5 * x.std(-1, keepdim=True)
    assert torch.equal(top_n_sigma_mask(x, 1.5), keep)
    assert torch.equal(top_n_sigma_mask(3 * x.T + 1, 1.5, dim=0), keep.T)  # temperatures change nothing
    torch.testing.assert_close(top_n_sigma_softmax(x, 1.5, temperature=2), softmax(x, mask=keep, temperature=2))
    assert torch.equal(top_n_sigma_softmax(x, 1.5) > 0, keep)
    assert top_n_sigma_mask(x, 0.0).sum(-1).tolist() == [1] * 5
    assert top_n_sigma_mask(torch.full((2, 3), 7.0, device=device), 0.5).all()
    assert top_n_sigma_mask(x[:, :1], 1.0).all()
    x[:, ::2], x[4] = -torch.inf, -torch.inf
    mask = top_n_sigma_mask(x, 1.5)
    assert torch.equal(mask[:4, 1::2], top_n_sigma_mask(x[:4, 1::2], 1.5))
    assert not mask[:, ::2].any()
    assert not mask[4].any()
    with pytest.raises(ValueError, match="at least 0"):
        top_n_sigma_mask(x, -1)
    for shape in [(0, 4), (4, 0)]:
        assert top_n_sigma_mask(torch.randn(shape, device=device), 1.0).shape == shape


# adaptive temperature


def test_adaptive_softmax_is_the_listing_of_the_paper(backend, device):
    """With entropies below the threshold, where the polynomial is below 1, and between."""
    x = torch.randn(8, 100, device=device) * torch.tensor([0.01, 0.5, 1, 2, 3, 5, 9, 30], device=device)[:, None]
    p = x.softmax(-1)
    entropy = -(p * (p + 1e-9).log()).sum(-1)
    beta = torch.tensor([max(sum(c * h ** (4 - i) for i, c in enumerate(POLYNOMIAL)), 1) if h > 0.5 else 1 for h in entropy.tolist()], device=device)
    assert (beta > 1).sum() >= 3
    assert (beta == 1).sum() >= 2
    torch.testing.assert_close(adaptive_softmax(x), (x * beta[:, None]).softmax(-1), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(adaptive_softmax(x, polynomial=(0.5,)), p)
    torch.testing.assert_close(adaptive_softmax(x, threshold=9.0), p)
    torch.testing.assert_close(adaptive_softmax(x, polynomial=(2.0,), threshold=-1.0), (2 * x).softmax(-1))


def test_adaptive_softmax_never_raises_the_entropy(device):
    x = torch.randn(50, 30, device=device) * torch.linspace(0.1, 8, 50, device=device)[:, None]
    entropy = lambda p: -torch.xlogy(p, p).sum(-1)
    assert (entropy(adaptive_softmax(x)) <= entropy(x.softmax(-1)) + 1e-5).all()
