"""Softmaxes of attention and samplers: what they all share, and kernels against references."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.kernels import (
    adaptive_softmax,
    dispatch,
    scalable_softmax,
    self_adjust_softmax,
    sparse_topk_softmax,
    stablemax,
    top_n_sigma_mask,
    top_n_sigma_softmax,
)
from runner.kernels.adaptive_softmax import adaptive_softmax_backward, fused_adaptive_softmax
from runner.kernels.scalable_softmax import fused_scalable_softmax, scalable_softmax_backward
from runner.kernels.self_adjust_softmax import fused_self_adjust_softmax, self_adjust_softmax_backward
from runner.kernels.sparse_topk_softmax import fused_sparse_topk_softmax
from runner.kernels.stablemax import fused_stablemax, stablemax_backward
from runner.kernels.top_n_sigma import fused_top_n_sigma_mask, fused_top_n_sigma_softmax

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def some(x, dim=-1, **options):
    """At most three entries: rows of one column have but one."""
    return sparse_topk_softmax(x, min(3, x.shape[dim]), dim, **options)


ROWS = {  # name: operation, function
    "sparse_topk": ("sparse_topk_softmax", some),
    "scalable": ("scalable_softmax", partial(scalable_softmax, s=0.43, bias=0.2)),
    "self_adjust": ("self_adjust_softmax", self_adjust_softmax),
    "self_adjust_plain": ("self_adjust_softmax", partial(self_adjust_softmax, normalise=False)),
    "stablemax": ("stablemax", stablemax),
    "top_n_sigma": ("top_n_sigma_softmax", partial(top_n_sigma_softmax, n=1.2, temperature=0.7)),
    "adaptive": ("adaptive_softmax", adaptive_softmax),
}
UNNORMALISED = ("self_adjust", "self_adjust_plain")
every = pytest.mark.parametrize("name", ROWS)


@pytest.fixture(params=["reference", "triton"])
def backend(request):
    with dispatch.backend(request.param):
        yield request.param


# all of them


@every
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cols", [1, 2, 3, 127, 1023, 4096])
def test_parity(name, dtype, cols, parity, device):
    x = (torch.randn(3, cols, device=device) * 2).to(dtype)
    if name == "self_adjust_plain":  # weights of the size of the scores
        x = x / 2
    parity(*ROWS[name], x)


@every
def test_parity_of_views_and_extremes(name, parity, device):
    op, f = ROWS[name]
    loose = {"rtol": 1e-4, "atol": 1e-5}
    x = torch.randn(6, 8, 10, device=device)
    for view in (x.transpose(0, 2), x[:, ::2, 1:7], x[:, :1].expand(6, 8, 10)):
        parity(op, lambda x: f(x, dim=1), view, **loose)
    x = torch.randn(4, 40, device=device) * 1e4
    x[:, ::5] = -torch.inf
    x[1], x[2], x[3, 7:] = 1e4, -1e4, -torch.inf
    if name == "self_adjust_plain":  # weights of 1e4, whose gradients are differences of such numbers
        loose["atol"] = 1e-2
    parity(op, f, x, **loose)


@every
def test_parity_of_wide_rows(name, parity, narrow, device):
    """Rows that do not fit in one program: stablemax has kernels for them, the others go through the softmax's."""
    op, f = ROWS[name]
    for rows in (1, 7):
        x = torch.randn(rows, 130, device=device)
        x[0, ::3] = -torch.inf
        if name == "stablemax":
            parity(op, f, x, path="split" if rows == 1 else "loop")
            continue
        dispatch.reset()
        double, single = x.double().requires_grad_(), x.clone().requires_grad_()
        y, grad = f(double), torch.randn_like(x)
        y.backward(grad.double())
        with dispatch.backend("triton"):
            got = f(single)
        got.backward(grad)
        assert (op, "triton", "rows") not in dispatch.used()
        if name != "sparse_topk":  # whose softmax is over k entries
            assert any(key[1:] == ("triton", "split" if rows == 1 else "loop") for key in dispatch.used())
        torch.testing.assert_close(got.double(), y, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(single.grad.double(), double.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cols", [65537, 1_000_003])
def test_very_long_rows(cols, device):
    """The references, and on a GPU the kernels beside them."""
    x = torch.randn(1, cols, device=device)
    for name, (_, f) in ROWS.items():
        with dispatch.backend("reference"):
            y = f(x)
        if name not in UNNORMALISED:
            assert y.sum() == pytest.approx(1, abs=1e-4)
        torch.testing.assert_close(f(x), y, rtol=1e-4, atol=1e-6)


@every
def test_edges(name, backend, device):
    """No rows, no columns, rows of -inf alone, NaN, autocast."""
    f = ROWS[name][1]
    for shape in [(0, 5), (3, 0)]:
        if name == "sparse_topk" and shape[1] == 0:
            continue
        x = torch.randn(shape, device=device, requires_grad=True)
        f(x).sum().backward()
        assert x.grad.shape == shape
    x = torch.full((2, 5), -torch.inf, device=device)
    x[1, 3] = 2.0
    x.requires_grad_()
    y = f(x)
    y.square().sum().backward()
    assert not y[0].any()
    assert y[1].nonzero().tolist() == [[3]]
    assert not x.grad[0].any()
    assert x.grad.isfinite().all()
    x = torch.randn(2, 5, device=device)
    x[0, 1] = torch.nan
    y = f(x)
    assert y[0].isnan().any()
    assert y[1].isfinite().all()
    with torch.autocast(device, torch.bfloat16):
        assert f(x.bfloat16()).dtype == torch.bfloat16


@every
def test_masked_entries_are_as_if_absent(name, backend, device):
    f = ROWS[name][1]
    x = torch.randn(4, 12, device=device)
    keep = torch.ones(12, dtype=torch.bool, device=device)
    keep[[0, 3, 4, 9]] = False
    a, b = x.masked_fill(~keep, -torch.inf).requires_grad_(), x[:, keep].requires_grad_()
    y, z = f(a), f(b)
    assert not y[:, ~keep].any()
    torch.testing.assert_close(y[:, keep], z, rtol=1e-5, atol=1e-6)
    g = torch.randn_like(x)
    y.backward(g)
    z.backward(g[:, keep])
    assert not a.grad[:, ~keep].any()
    torch.testing.assert_close(a.grad[:, keep], b.grad, rtol=1e-4, atol=1e-6)


@every
def test_nan_of_one_row_changes_no_other(name, backend, device):
    f = ROWS[name][1]
    x = torch.randn(3, 6, device=device)
    x[:, ::3], x[1, 1] = -torch.inf, torch.nan
    torch.testing.assert_close(f(x)[::2], f(x[::2]))


@every
def test_integers_are_refused(name):
    with pytest.raises(TypeError, match=r"float type, not torch\.int64"):
        ROWS[name][1](torch.arange(5))


@pytest.mark.parametrize("name", ["scalable", "adaptive", "sparse_topk"])
def test_a_row_of_the_lowest_numbers_is_not_masked(name, backend, device):
    """As attention masks that add finfo.min leave it; a scale above 1 must not make NaN of it."""
    f = partial(scalable_softmax, s=2.0) if name == "scalable" else ROWS[name][1]
    x = torch.full((2, 3), torch.finfo(torch.float32).min, device=device)
    x[1, 2] = -torch.inf
    x.requires_grad_()
    y = f(x)
    torch.testing.assert_close(y, torch.tensor([[1 / 3, 1 / 3, 1 / 3], [0.5, 0.5, 0]], device=device))
    y[:, 0].sum().backward()
    assert x.grad.isfinite().all()


@every
def test_second_derivative(name, device):
    f = ROWS[name][1]
    x = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(f, x)
    assert torch.autograd.gradgradcheck(f, x)
    x, w = torch.randn(3, 6, device=device, requires_grad=True), torch.randn(3, 6, device=device)
    found = []
    for choice in ("reference", "triton"):
        with dispatch.backend(choice):
            (first,) = torch.autograd.grad((f(x) * w).sum(), x, create_graph=True)
            found += [torch.autograd.grad(first.square().sum(), x)[0]]
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


@every
@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.lists(st.integers(-40, 40).map(lambda n: n / 8), min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_properties(name, values, random):
    """Rows sum to one and follow permutations (up to the choice among ties), and larger scores weigh no less."""
    f = ROWS[name][1]
    x = torch.tensor([values], device=DEVICE)
    order = list(range(len(values)))
    random.shuffle(order)
    with dispatch.backend("triton"):
        y, permuted = f(x), f(x[:, order])
    if name not in UNNORMALISED:
        torch.testing.assert_close(y.sum(), y.new_ones(()))
    torch.testing.assert_close(permuted.sort().values, y.sort().values)
    if name != "self_adjust_plain":
        assert (y >= 0).all()
        assert (y[0, x[0].argsort(descending=True, stable=True)].diff() <= 0).all()


# torch's own checks


def test_opcheck(device):
    x, rows = torch.randn(2, 5, device=device, requires_grad=True), torch.rand(2, device=device, requires_grad=True)
    y, row = x.detach(), rows.detach()
    for op, arguments in [
        (fused_sparse_topk_softmax, (x, 2, 0.5)),
        (fused_scalable_softmax, (x, rows, rows.detach())),
        (scalable_softmax_backward, (y, y, row)),
        (fused_self_adjust_softmax, (x, True)),
        (self_adjust_softmax_backward, (y, y, True)),
        (fused_stablemax, (x,)),
        (stablemax_backward, (y, y, row)),
        (fused_top_n_sigma_softmax, (x, 1.0, 0.5)),
        (fused_top_n_sigma_mask, (y, 1.0)),
        (fused_adaptive_softmax, (x, [1.0, 2.0], 0.5)),
        (adaptive_softmax_backward, (y, y, [1.0, 2.0], 0.5)),
    ]:
        torch.library.opcheck(op, arguments)


def test_compiles_without_a_graph_break(device):
    def f(x):
        return sum((i + 1) * (g(x) * x).sum() for i, (_, g) in enumerate(ROWS.values())) + (x * top_n_sigma_mask(x, 1.0)).sum()

    x = torch.randn(3, 5, device=device, requires_grad=True)
    (expected,) = torch.autograd.grad(f(x), x)
    for choice in ("reference", "triton"):
        with dispatch.backend(choice):
            dispatch.reset()
            (got,) = torch.autograd.grad(torch.compile(f, fullgraph=True, backend="aot_eager")(x), x)
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    ran = {op + end for op, _ in ROWS.values() for end in ("", "_backward")} | {"top_n_sigma_mask"}
    assert set(dispatch.used()) == {(op, "triton", "rows") for op in ran}


def test_every_kernel_compiles_for_hopper():
    pytest.importorskip("triton")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    script = Path(__file__).with_name("hopper_softmaxes.py")
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment)
    assert ran.returncode == 0, ran.stderr[-3000:]
    *compiled, number = map(json.loads, ran.stdout.splitlines())
    assert number == len(compiled) >= 15
    for line in compiled:
        assert line["shared"] <= 227 * 1024, line
        assert line["stack"] <= 64, line
