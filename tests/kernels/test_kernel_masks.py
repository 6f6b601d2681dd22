"""N:M masks, SR-STE and top-k masks: against their definitions, torch.topk and each other; kernels against references."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.kernels import dispatch, nm_mask, nm_prune, sr_ste, topk_mask, topk_mask_triton
from runner.kernels.nm_mask import fused_nm, sr_ste_backward
from runner.kernels.topk_mask import fused_topk

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(params=["reference", "triton"])
def backend(request):
    with dispatch.backend(request.param):
        yield request.param


def by_hand(values, n):
    """The indices kept of one group: largest magnitude first, then lowest index."""
    return sorted(sorted(range(len(values)), key=lambda i: (-abs(values[i]), i))[:n])


# N:M


@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 2), (2, 4), (4, 8), (3, 5), (8, 8), (2, 32), (31, 32)])
@pytest.mark.parametrize(("dim", "dtype"), [(0, torch.float32), (1, torch.bfloat16), (-1, torch.float32), (-1, torch.float16)])
def test_nm_parity(n, m, dim, dtype, device):
    shape = [5, 5, 5]
    shape[dim] = 3 * m
    w = torch.randint(-5, 5, shape, device=device).to(dtype)
    expected = nm_prune(w, n, m, dim)
    dispatch.reset()
    with dispatch.backend("triton"):
        got = nm_prune(w, n, m, dim)
        mask = nm_mask(w, n, m, dim)
    path = "dense" if dim == -1 and m != 5 else "strided"
    assert dispatch.used() == {("nm_mask", "triton", path): 2}
    assert torch.equal(got[1], expected[1])
    assert torch.equal(mask, expected[1])
    assert torch.equal(got[0], expected[0])
    assert torch.equal(got[0], w * mask)


def test_nm_ties_signs_and_special_values(backend, device):
    w = torch.tensor([[1.0, -1.0, 1.0, -1.0], [0.0, -0.0, 0.0, 0.0], [-torch.inf, 3.0, torch.nan, -4.0], [0.5, -2.0, 2.0, 1.0]], device=device)
    kept = [row.nonzero().flatten().tolist() for row in nm_mask(w, 2, 4)]
    assert kept == [[0, 1], [0, 1], [0, 2], [1, 2]]


def test_nm_of_views(backend, device):
    w = torch.randn(8, 12, 4, device=device)
    for view, dim in [(w.transpose(0, 1), 0), (w[:, ::3], 1), (w[:, :1].expand(8, 4, 4), 1)]:
        assert torch.equal(nm_mask(view, 2, 4, dim), nm_mask(view.contiguous(), 2, 4, dim))
    assert nm_mask(w[:0], 2, 4).shape == (0, 12, 4)


def test_nm_bad_requests(backend, device):
    w = torch.randn(4, 6, device=device)
    for n, m, message in [(0, 2, "1 <= n"), (3, 2, "1 <= n"), (1.5, 2, "whole"), (2, 33, "m <= 32"), (2, 4, "does not divide the 6")]:
        with pytest.raises(ValueError, match=message):
            nm_mask(w, n, m)


def test_nm_prune_gradient_is_masked(backend, device):
    w = torch.randn(4, 8, device=device, requires_grad=True)
    pruned, mask = nm_prune(w, 2, 4)
    assert not mask.requires_grad
    (2 * pruned).sum().backward()
    assert torch.equal(w.grad, 2.0 * mask)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sr_ste(backend, dtype, device):
    w, grad = torch.randn(4, 8, device=device).to(dtype).requires_grad_(), torch.randn(4, 8, device=device).to(dtype)
    pruned = sr_ste(w, 2, 4, decay=0.1)
    mask = nm_mask(w, 2, 4)
    assert torch.equal(pruned, w * mask)
    pruned.backward(grad)
    torch.testing.assert_close(w.grad, grad + 0.1 * torch.where(mask, 0, w.detach()), rtol=1e-2, atol=1e-3)
    if backend == "triton":
        assert dispatch.used()["sr_ste_backward", "triton", "blocks"] == 1
    assert torch.equal(torch.autograd.grad(sr_ste(w, 2, 4, decay=0.0), w, grad)[0], grad)


def test_sr_ste_gives_kept_weights_the_gradient_alone(backend, device):
    """Whatever they are: infinity times a mask of zero would be NaN."""
    w = torch.tensor([torch.inf, 1.0, 2.0, torch.nan], device=device, requires_grad=True)
    (grad,) = torch.autograd.grad(sr_ste(w, 2, 4, decay=0.5), w, torch.ones_like(w))
    assert grad.tolist() == [1.0, 1.5, 2.0, 1.0]


def test_sr_ste_without_decay_has_the_second_derivative_in_what_it_gives(backend, device):
    """f = sum y^3 / 3 has the gradient y^2, and that, times v, the gradient 2 y v, straight through again."""
    w, v = torch.randn(2, 4, device=device, requires_grad=True), torch.randn(2, 4, device=device)
    y = sr_ste(w, 1, 2, decay=0.0)
    (first,) = torch.autograd.grad(y.pow(3).sum() / 3, w, create_graph=True)
    torch.testing.assert_close(first, y**2)
    torch.testing.assert_close(torch.autograd.grad((first * v).sum(), w)[0], 2 * y * v)


def test_sr_ste_with_decay_refuses_a_second_derivative(backend, device):
    w = torch.randn(2, 4, device=device, requires_grad=True)
    (first,) = torch.autograd.grad(sr_ste(w, 1, 2, decay=0.1).square().sum(), w, create_graph=True)
    torch.testing.assert_close(first, torch.where(nm_mask(w, 1, 2), 2, 0.1) * w)
    with pytest.raises(RuntimeError, match="with decay cannot be differentiated twice"):
        torch.autograd.grad(first.sum(), w)


def test_sr_ste_inside_transforms(device):
    """`torch.func.grad` asks for a graph of the gradient, also where nobody differentiates it."""
    w = torch.randn(3, 2, 4, device=device)
    try:
        torch.func.vmap(lambda w: w.view(torch.int32))(w)
    except RuntimeError:
        pytest.skip("this torch cannot map over the bits of numbers")
    with dispatch.backend("reference"):
        torch.testing.assert_close(torch.func.vmap(lambda w: sr_ste(w, 1, 2))(w), nm_prune(w, 1, 2)[0])
        for decay in (0.0, 0.1):
            grad = torch.func.grad(lambda w, decay=decay: sr_ste(w, 1, 2, decay=decay).square().sum())
            for found in (grad(w), torch.func.vmap(grad)(w)):
                torch.testing.assert_close(found, torch.where(nm_mask(w, 1, 2), 2, decay) * w)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.data(), st.integers(1, 12))
def test_nm_properties(data, m):
    """The count of every group, the definition, invariance to sign and scale, and idempotence."""
    n = data.draw(st.integers(1, m))
    values = data.draw(st.lists(st.lists(st.integers(-4, 4), min_size=m, max_size=m), min_size=1, max_size=6))
    w = torch.tensor(values, device=DEVICE, dtype=torch.float32)
    with dispatch.backend("triton"):
        pruned, mask = nm_prune(w, n, m)
        assert (mask.sum(-1) == n).all()
        assert [row.nonzero().flatten().tolist() for row in mask] == [by_hand(row, n) for row in values]
        assert torch.equal(nm_mask(-w * 8, n, m), mask)
        assert torch.equal(nm_mask(w.T, n, m, 0), mask.T)
        assert torch.equal(nm_prune(pruned, n, m)[0], pruned)


# top-k


@pytest.mark.parametrize("dtypes", [[torch.float32], [torch.bfloat16], [torch.float16], DTYPES])
@pytest.mark.parametrize("k", [1, 7, 2000, 9999, 12_000, 12_499])
def test_topk_parity(dtypes, k, device):
    """Distinct values, many ties and an empty tensor, across blocks."""
    tensors = [torch.randn(9000, device=device), torch.randint(-3, 4, (50, 70), device=device), torch.empty(0, 3, device=device)]
    tensors = [x.to(dtypes[i % len(dtypes)]) for i, x in enumerate(tensors)]
    expected = topk_mask(tensors, k)
    dispatch.reset()
    with dispatch.backend("triton"):
        got = topk_mask(tensors, k)
    assert dispatch.used() == {("topk_mask", "triton", "histogram"): 1}
    assert sum(int(mask.sum()) for mask in got) == k
    for x, y, w in zip(got, expected, tensors, strict=True):
        assert x.shape == w.shape
        assert torch.equal(x, y)


def test_topk_against_torch(backend, device):
    w = torch.randn(40, 30, device=device)
    for k in (1, 17, 600, 1199):
        best = w.abs().flatten().topk(k).indices
        assert torch.equal(topk_mask(w, k).flatten().nonzero().flatten(), best.sort().values)


def test_topk_ties_and_special_values(backend, device, monkeypatch):
    monkeypatch.setattr(topk_mask_triton, "BLOCK", 4)  # so that ties cross blocks
    w = [torch.tensor([2.0, -1.0, 1.0, 0.0, 1.0], device=device), torch.tensor([1.0, -2.0, 1.0], device=device)]
    assert [m.nonzero().flatten().tolist() for m in topk_mask(w, 5)] == [[0, 1, 2, 4], [1]]
    assert [m.nonzero().flatten().tolist() for m in topk_mask(w, 6)] == [[0, 1, 2, 4], [0, 1]]
    w = torch.tensor([1.0, torch.nan, -torch.inf, torch.inf, 1e-40, 0.0], device=device)
    assert [topk_mask(w, k).nonzero().flatten().tolist() for k in (1, 2, 4, 5)] == [[1], [1, 2], [0, 1, 2, 3], [0, 1, 2, 3, 4]]
    assert topk_mask(torch.zeros(9, device=device), 4).tolist() == [True] * 4 + [False] * 5


def test_topk_sizes_and_densities(backend, device):
    w = torch.randn(4, 5, device=device)
    assert not topk_mask(w, 0).any()
    assert not topk_mask(w, -3).any()
    assert topk_mask(w, 25).all()
    assert topk_mask(w, density=0.25).sum() == 5
    assert topk_mask(w[:0], 3).shape == (0, 5)
    assert topk_mask([], 3) == []
    assert torch.equal(topk_mask(w.T, 7), topk_mask(w.T.contiguous(), 7))
    for bad in ({}, {"k": 1, "density": 0.5}, {"density": 1.5}):
        with pytest.raises(ValueError, match="density"):
            topk_mask(w, **bad)


def test_topk_in_double_precision():
    w = torch.tensor([1.0, 1.0 + 1e-12], dtype=torch.float64)
    assert topk_mask(w, 1).tolist() == [False, True]


def test_whole_numbers():
    """The least number of eight bits has the largest magnitude; beyond 2^24 float32 would see ties."""
    least = torch.tensor([127, -128, 3, 2], dtype=torch.int8)
    assert nm_mask(least, 1, 4).tolist() == topk_mask(least, 1).tolist() == [False, True, False, False]
    large = torch.tensor([2**24, 2**24 + 1], dtype=torch.int32)
    assert nm_mask(large, 1, 2).tolist() == topk_mask(large, 1).tolist() == [False, True]
    assert [m.tolist() for m in topk_mask([least, large, least.float()], 2)] == [[False] * 4, [True, True], [False] * 4]


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.lists(st.integers(-5, 5), min_size=1, max_size=60), st.data())
def test_topk_properties(values, data):
    """The definition, nested masks for growing k, and idempotence."""
    k = data.draw(st.integers(1, len(values)))
    w = torch.tensor(values, device=DEVICE, dtype=torch.float32)
    with dispatch.backend("triton"):
        mask = topk_mask(w, k)
        assert mask.nonzero().flatten().tolist() == by_hand(values, k)
        assert not (topk_mask(w, k - 1) & ~mask).any()
        assert torch.equal(w * topk_mask(w * mask, k), w * mask)


# torch's own checks


def test_opcheck(device):
    w = torch.randn(4, 8, device=device, requires_grad=True)
    torch.library.opcheck(fused_nm, (w, 2, 4, 1, True, None))
    torch.library.opcheck(fused_nm, (w, 2, 4, 0, True, 0.1))
    torch.library.opcheck(sr_ste_backward, (w.detach(), w.detach(), w.detach() > 0, 0.1))
    torch.library.opcheck(fused_topk, ([w.detach(), w.detach()[0]], 5))


def test_compiles_without_a_graph_break(device):
    def f(w):
        return sr_ste(w, 2, 4, decay=0.1).square().sum() + (w * topk_mask(w, 5)).sum()

    w = torch.randn(4, 8, device=device, requires_grad=True)
    (expected,) = torch.autograd.grad(f(w), w)
    with dispatch.backend("triton"):
        dispatch.reset()
        (got,) = torch.autograd.grad(torch.compile(f, fullgraph=True, backend="aot_eager")(w), w)
    assert set(dispatch.used()) == {
        ("nm_mask", "triton", "dense"),
        ("sr_ste_backward", "triton", "blocks"),
        ("topk_mask", "triton", "histogram"),
    }
    torch.testing.assert_close(got, expected)
