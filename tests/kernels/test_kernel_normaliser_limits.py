"""Normalisers at their limits: an alpha that learns in the kernel, very long rows, second derivatives with masks, views, autocast."""

from functools import partial

import pytest
import torch

from runner.kernels import (
    dispatch,
    entmax,
    entmax15,
    gumbel_softmax,
    layout,
    log_softmax,
    softmax,
    softmax_plus_one,
    softpick,
    sparse_topk_softmax,
    sparsemax,
    stablemax,
    topk_softmax,
)
from runner.kernels.entmax import entmax_alphas_backward, fused_entmax_alphas
from runner.kernels.gumbel_softmax import gumbel_noise

SOFT = [softmax, log_softmax, softmax_plus_one]
by_name = {"ids": lambda f: getattr(f, "__name__", "partial")}


@pytest.fixture(params=["reference", "triton"])
def backend(request):
    with dispatch.backend(request.param):
        yield request.param


# an alpha that learns


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("cols", [1, 2, 3, 127, 1023, 4096])
def test_alphas_of_rows(dtype, cols, device):
    """Alphas on both sides of 2, one a row; scores and alphas learn."""
    x = (torch.randn(5, cols, device=device) * 2).to(dtype)
    alpha = torch.tensor([1.05, 1.4, 1.5, 2.0, 3.5], device=device)[:, None]
    found = []
    for choice, kind in (("reference", torch.float64), ("triton", dtype)):
        z, a = x.to(kind).requires_grad_(), alpha.to(torch.promote_types(kind, torch.float32)).requires_grad_()
        dispatch.reset()
        with dispatch.backend(choice):
            y = entmax(z, a)
        (y * torch.linspace(0, 1, cols, device=device).to(dtype).to(kind)).sum().backward()
        found.append([v.double() for v in (y, z.grad, a.grad)])
    assert dispatch.used() == {(f"entmax{end}", "triton", "rows"): 1 for end in ("", "_backward")}
    rtol, atol = {torch.float32: (1e-3, 2e-4), torch.float16: (4e-3, 1e-3), torch.bfloat16: (3e-2, 8e-3)}[dtype]
    for got, expected in zip(*reversed(found), strict=True):
        torch.testing.assert_close(got, expected, rtol=rtol, atol=atol)


def test_alpha_of_another_shape(device):
    """One alpha for all, one for each head along another dimension; second derivatives, rows of -inf, and rows that are too wide."""
    x = torch.randn(2, 3, 6, 4, device=device)
    for shape, dim in [((), -1), ((3, 1, 1), -1), ((1, 3, 1, 4), 2)]:
        found = []
        for choice in ("reference", "triton"):
            z, a = x.clone().requires_grad_(), torch.linspace(1.2, 2.6, 12)[: max(1, torch.Size(shape).numel())].view(shape).to(device).requires_grad_()
            with dispatch.backend(choice):
                first = torch.autograd.grad(entmax(z, a, dim).square().sum(), (z, a), create_graph=True)
                found.append([*first, *torch.autograd.grad(first[0].square().sum() + first[1].sum(), (z, a))])
        for a, b in zip(*found, strict=True):
            torch.testing.assert_close(a, b, rtol=2e-3, atol=2e-3)
    dead = torch.full((2, 3), -torch.inf, device=device, requires_grad=True)
    a = torch.tensor(1.7, device=device, requires_grad=True)
    with dispatch.backend("triton"):
        y = entmax(dead, a)
        y.sum().backward()
    assert not y.any()
    assert not dead.grad.any()
    assert a.grad == 0
    with dispatch.backend("triton"), pytest.raises(RuntimeError, match="alpha that is a tensor with rows of more than 32768"):
        entmax(torch.zeros(1, 32769, device=device), a)


@pytest.mark.parametrize("alpha", [1.01, 1.001, 1.0001, 1.00001])
def test_slope_of_an_alpha_near_one(alpha, backend, device):
    """The terms of the formula grow as (alpha - 1)^-2, and cancel; against differences in float64."""
    x, w = torch.randn(8, 50, device=device), torch.randn(8, 50, device=device)
    a = torch.tensor(alpha, device=device, requires_grad=True)
    (got,) = torch.autograd.grad((entmax(x, a) * w).sum(), a)
    at, step = a.double().item(), 1e-3 * (alpha - 1)
    with dispatch.backend("reference"):
        up, down = (entmax(x.double(), at + h) for h in (step, -step))
    assert got.item() == pytest.approx(((up - down) * w).sum().item() / (2 * step), abs=0.02)


def test_an_alpha_of_fewer_dimensions_broadcasts_from_the_last(backend, device):
    x, alpha = torch.randn(2, 3, 3, device=device), torch.tensor([[1.2, 1.7, 2.5]], device=device)
    torch.testing.assert_close(entmax(x, alpha, dim=1), torch.stack([entmax(x[..., i], a) for i, a in enumerate(alpha[0].tolist())], -1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(entmax(x, alpha, dim=-3), entmax(x, alpha[None], dim=0))
    with pytest.raises(ValueError, match="alpha must have size 1"):
        entmax(x, alpha)


# very long rows


@pytest.mark.parametrize(
    "f",
    [*SOFT, sparsemax, entmax15, partial(entmax, alpha=1.25), partial(entmax, alpha=3.0), stablemax, partial(sparse_topk_softmax, k=9)],
    **by_name,
)
def test_parity_of_long_rows(f, device):
    """65,537 columns: several programs a row, without any change of sizes."""
    found = []
    grad = torch.randn(1, 65537, device=device)
    x = torch.randn(1, 65537, device=device) * 3
    for choice, kind in (("reference", torch.float64), ("triton", torch.float32)):
        z = x.to(kind).requires_grad_()
        with dispatch.backend(choice):
            y = f(z)
            y.backward(grad.to(kind))
        found.append((y.double(), z.grad.double()))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6 if f is not log_softmax else 1e-3)


def test_a_million_columns(device):
    x = torch.randn(1, 1_000_003, device=device) * 3
    with dispatch.backend("triton"):
        got = softmax(x)
    assert dispatch.used() == {("softmax", "triton", "split"): 1}
    torch.testing.assert_close(got.double(), x.double().softmax(-1), rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("cols", [65537, 1_000_003])
def test_references_of_very_long_rows(cols):
    x = torch.randn(1, cols)
    for f in (softmax, sparsemax, entmax15, partial(entmax, alpha=1.5001), partial(gumbel_softmax, seed=3)):
        assert f(x).sum().item() == pytest.approx(1, abs=1e-4)
    assert log_softmax(x).exp().sum().item() == pytest.approx(1, abs=1e-4)
    assert 0 < softpick(x).sum() < 1
    values, best = topk_softmax(x, 5)
    assert torch.equal(best, x.topk(5).indices)
    torch.testing.assert_close(values, x.softmax(-1).topk(5).values)


def test_wide_rows_of_a_router_and_of_noise(narrow, device):
    """The kernels of both hold whole rows; wider ones go through the softmax's."""
    x = torch.randn(3, 150, device=device)
    for renormalise in (False, True):
        with dispatch.backend("triton"):
            values, best = topk_softmax(x, 100, temperature=0.7, renormalise=renormalise)
        expected, at = topk_softmax(x, 100, temperature=0.7, renormalise=renormalise)
        torch.testing.assert_close(values, expected)
        assert torch.equal(best, at)
    with dispatch.backend("triton"):
        y = gumbel_softmax(x, 0.5, seed=7)
    torch.testing.assert_close(y, ((x + gumbel_noise(x.shape, 7, device)) / 0.5).softmax(-1))
    assert {key for key in dispatch.used() if key[1] == "triton"} <= {("softmax", "triton", path) for path in ("rows", "loop", "split")}


# masks and second derivatives


@pytest.mark.parametrize("f", SOFT, **by_name)
def test_second_derivative_with_masks(f, device):
    """In scores, a learnt mask and a temperature, under a causal mask."""
    x = torch.randn(2, 4, 5, device=device)
    inputs = [torch.randn(4, 5, device=device), torch.tensor(0.8, device=device)]
    found = []
    for choice in ("reference", "triton"):
        leaves = [v.clone().requires_grad_() for v in (x, *inputs)]
        with dispatch.backend(choice):
            y = f(leaves[0], mask=leaves[1], temperature=leaves[2], causal=True)
            y = y.masked_fill(y == -torch.inf, 0)
            first = torch.autograd.grad(y.square().sum(), leaves, create_graph=True)
            found.append([*first, *torch.autograd.grad(sum(g.square().sum() for g in first), leaves)])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("f", SOFT, **by_name)
def test_causal_edges(f, backend, device):
    """Fewer keys than queries leave rows with nothing to see; no queries, no keys; one of each."""
    y = f(torch.zeros(4, 2, device=device), causal=True)
    dead = -torch.inf if f is log_softmax else 0.0
    assert y[:2].tolist() == [[dead] * 2] * 2
    assert (y[2:] > dead).tolist() == [[True, False], [True, True]]
    for shape in [(0, 3), (3, 0), (1, 1)]:
        assert f(torch.zeros(2, *shape, device=device), causal=True).shape == (2, *shape)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_half_precision_masks(dtype, backend, device):
    """A mask of another dtype than the scores, and -inf in an additive one."""
    x = torch.randn(3, 4, 70, device=device).to(dtype)
    mask = torch.randn(4, 70, device=device)
    mask[:, ::3] = -torch.inf
    expected = (x.double() + mask.double()).softmax(-1)
    torch.testing.assert_close(softmax(x, mask=mask).double(), expected, rtol=2e-2, atol=1e-3)
    assert not softmax(x, mask=mask)[..., ::3].any()


@pytest.mark.parametrize("f", SOFT, **by_name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_temperature_in_a_tensor_is_as_exact_as_a_number(f, dtype, backend, device):
    """Also where scores in 16 bits would be rounded by more than their differences, or overflow."""
    x = torch.tensor([[1.0, 1.0078125, 0.9921875], [1e4, 0.0, -1e4]], device=device, dtype=dtype).requires_grad_()
    found = []
    for t in (0.125, torch.tensor(0.125, device=device)):
        y = f(x, temperature=t)
        assert y.dtype == dtype
        y = y.masked_fill(y == -torch.inf, 0)
        found.append((y, torch.autograd.grad(y[:, 0].sum(), x)[0]))
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 2e-2, "atol": 1e-2}
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, **tolerance)


def test_a_mask_whose_columns_lie_far_apart(device):
    """Of 2^30 bytes each, of which three are touched; the last lies beyond what 32 bits address."""
    mask = torch.empty(3, 2**30, dtype=torch.bool, device=device)[:, :1].T
    mask[:] = torch.tensor([True, False, True])
    x = torch.zeros(1, 3, device=device)
    with dispatch.backend("triton"):
        assert softmax(x, mask=mask).tolist() == [[0.5, 0, 0.5]]


# the router


def test_topk_softmax_of_views_and_extremes(device):
    x = torch.randn(6, 8, 10, device=device)
    extreme = torch.randn(4, 4096, device=device) * 1e4
    extreme[:, ::5] = -torch.inf
    for view in (x.transpose(0, 2), x[:, ::2, 1:7], x[:, :1].expand(6, 8, 10), extreme, extreme.bfloat16(), x[:, :, :0].new_zeros(0, 4)):
        found = []
        for choice, kind in (("reference", torch.float64), ("triton", view.dtype)):
            z = view.detach().to(kind).requires_grad_()
            with dispatch.backend(choice):
                values, best = topk_softmax(z, 3)
            values.square().sum().backward()
            found.append((values.double(), best, z.grad.double()))
        for a, b in zip(*found, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-3)


def test_autocast(backend, device):
    x = torch.randn(3, 5, device=device, dtype=torch.bfloat16)
    with torch.autocast(device, torch.bfloat16):
        for f in (softpick, partial(gumbel_softmax, seed=1), lambda x: topk_softmax(x, 2)[0], lambda x: entmax(x, torch.tensor(1.5, device=device))):
            assert f(x).dtype == torch.bfloat16


def test_opcheck_and_compile(device):
    x, alpha = torch.randn(2, 5, device=device, requires_grad=True), torch.tensor([1.3, 1.8], device=device, requires_grad=True)
    torch.library.opcheck(fused_entmax_alphas, (x, alpha))
    torch.library.opcheck(entmax_alphas_backward, (x.detach(), x.detach().softmax(-1), alpha.detach()))
    f = lambda x, alpha: entmax(x, alpha[:, None]).square().sum()
    expected = torch.autograd.grad(f(x, alpha), (x, alpha))
    with dispatch.backend("triton"):
        got = torch.autograd.grad(torch.compile(f, fullgraph=True, backend="aot_eager")(x, alpha), (x, alpha))
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("f", SOFT, **by_name)
def test_parity_of_clusters(f, parity, narrow, monkeypatch, device):
    """Programs that hold a row together; on a GPU a row that is wide indeed."""
    if device == "cuda":
        triton = pytest.importorskip("triton")
        if torch.cuda.get_device_capability() < (9, 0) or tuple(map(int, triton.__version__.split(".")[:2])) < (3, 9):
            pytest.skip("clusters need a Hopper GPU and triton 3.9")
        monkeypatch.undo()
    else:
        monkeypatch.setattr(layout, "SHARE", 32)
    monkeypatch.setattr(layout, "CLUSTER", 8)
    x = torch.randn(3, 100_001 if device == "cuda" else 200, device=device)
    x[0, ::3] = -torch.inf
    x[1] = -torch.inf
    parity(f.__name__, f, x, path="cluster")
