"""Softmax, log-softmax, softmax-plus-one, sparsemax and entmax: references against peers, kernels against references."""

import sys
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.kernels import dispatch, entmax, entmax15, log_softmax, softmax, softmax_plus_one, sparsemax
from runner.kernels.entmax import _bisect, _newton, fused_entmax
from runner.kernels.softmax import family_backward, fused_softmax

MAPPINGS = {
    "softmax": softmax,
    "log_softmax": log_softmax,
    "softmax_plus_one": softmax_plus_one,
    "sparsemax": sparsemax,
    "entmax15": entmax15,
    "entmax": partial(entmax, alpha=1.25),
}
SPARSE = ["sparsemax", "entmax15", "entmax"]
every = pytest.mark.parametrize("op", MAPPINGS)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="a row this wide takes the interpreter minutes")


@pytest.fixture(params=["reference", "triton"])
def backend(request):
    with dispatch.backend(request.param):
        yield request.param


# references


@every
def test_reference_gradients(op):
    x = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(MAPPINGS[op], x)
    assert torch.autograd.gradgradcheck(MAPPINGS[op], x)


def test_reference_gradients_of_temperature_and_mask():
    x, bias = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True), torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    t = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    for f in (softmax, softmax_plus_one):
        assert torch.autograd.gradcheck(lambda x, b, t, f=f: f(x, mask=b, temperature=t, causal=True), (x, bias, t))


@pytest.mark.parametrize("alpha", [1.05, 1.5, 2.0, 3.0])
def test_reference_gradient_of_alpha(alpha):
    x = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    a = torch.full((4, 1), alpha, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(entmax, (x, a))
    a = torch.tensor(alpha, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x, a: entmax(x, a, dim=0), (x, a))


@pytest.mark.parametrize("alpha", [1.05, 1.2, 1.5, 2.0, 2.5, 4.0])
def test_reference_against_the_entmax_package(alpha):
    peer = pytest.importorskip("entmax")
    x = torch.randn(7, 33, dtype=torch.float64) * 3
    torch.testing.assert_close(entmax(x, alpha), peer.entmax_bisect(x, alpha=alpha, n_iter=60))
    torch.testing.assert_close(entmax(x, torch.tensor(alpha), dim=0), peer.entmax_bisect(x, alpha=alpha, n_iter=60, dim=0))
    torch.testing.assert_close(sparsemax(x), peer.sparsemax(x, dim=-1))
    torch.testing.assert_close(entmax15(x), peer.entmax15(x, dim=-1))


@pytest.mark.parametrize("alpha", [1.001, 1.1, 1.25, 1.7, 1.99])
@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("cols", [1, 10, 3000])
def test_newton_and_bisection_find_the_same_threshold(alpha, scale, cols):
    """And at it the entries sum to 1, which both miss by what rounding of the threshold does to the power."""
    z = scale * torch.randn(20, cols, dtype=torch.float64)
    z[0], z[1, 1:] = 0, -torch.inf
    z = (z - z.amax(-1, keepdim=True)) * (alpha - 1)
    total = lambda tau: (z - tau).relu().pow(1 / (alpha - 1)).sum(-1)
    newton, bisect = _newton(z, alpha), _bisect(z, alpha)
    torch.testing.assert_close(newton, bisect, rtol=0, atol=1e-14)
    torch.testing.assert_close(total(newton), torch.ones(20, dtype=torch.float64), rtol=0, atol=1e-15 / (alpha - 1) + 1e-14)


@every
def test_nan_of_one_row_changes_no_other(op, backend, device):
    x = torch.randn(4, 3000, device=device) * 3
    alone = MAPPINGS[op](x[1:])
    x[0, 0] = torch.nan
    torch.testing.assert_close(MAPPINGS[op](x)[1:], alone, rtol=1e-5, atol=1e-6)


@every
def test_integers_are_refused(op):
    with pytest.raises(TypeError, match=r"float type, not torch\.int64"):
        MAPPINGS[op](torch.tensor([1, 2, 3]))


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8])
def test_an_integer_mask_is_refused(dtype, backend, device):
    """Added as numbers, its ones and zeros would mask nothing."""
    with pytest.raises(TypeError, match="mask must be boolean or float"):
        softmax(torch.randn(3, device=device), mask=torch.tensor([1, 0, 1], dtype=dtype, device=device))


def test_entmax_where_newton_is_too_slow_is_bisected(monkeypatch):
    x = torch.randn(5, 9)
    monkeypatch.setattr(sys.modules[_newton.__module__], "_newton", lambda z, alpha: None)
    bisected = entmax(x, 1.25)
    monkeypatch.undo()
    torch.testing.assert_close(entmax(x, 1.25), bisected)


def test_alpha_at_its_ends():
    x = torch.randn(3, 5)
    assert torch.equal(entmax(x, 1.0), softmax(x))
    torch.testing.assert_close(entmax(x, 1.0001), softmax(x), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(entmax(x, torch.tensor(2.0)), sparsemax(x))
    for alpha in (0.9, torch.inf, torch.nan):
        with pytest.raises(ValueError, match="at least 1"):
            entmax(x, alpha)


# both against torch.nn.functional


def test_against_torch(backend, device):
    x = torch.randn(4, 6, 9, device=device)
    keep = torch.rand(6, 9, device=device) > 0.3
    keep[:, 0] = True
    torch.testing.assert_close(softmax(x, 1, temperature=0.5), (x * 2).softmax(1))
    torch.testing.assert_close(log_softmax(x, 0), x.log_softmax(0))
    torch.testing.assert_close(softmax(x, mask=keep), x.masked_fill(~keep, -torch.inf).softmax(-1))
    torch.testing.assert_close(softmax_plus_one(x), x.exp() / (1 + x.exp().sum(-1, keepdim=True)))
    square = torch.randn(2, 8, 8, device=device)
    causal = square.masked_fill(torch.ones(8, 8, dtype=torch.bool, device=device).triu(1), -torch.inf)
    torch.testing.assert_close(softmax(square, causal=True), causal.softmax(-1))


def test_causal_is_aligned_with_the_last_key(backend, device):
    y = softmax(torch.zeros(2, 3, 5, device=device), causal=True)
    assert (y[0] > 0).sum(-1).tolist() == [3, 4, 5]
    with pytest.raises(ValueError, match="causal"):
        softmax(torch.zeros(3, 5, device=device), 0, causal=True)
    with pytest.raises(ValueError, match="temperature"):
        softmax(torch.zeros(3, 5, device=device), temperature=0)


@every
def test_rows_of_minus_infinity(op, backend, device):
    x = torch.full((3, 5), -torch.inf, device=device)
    x[1, 2] = 4.0
    x.requires_grad_()
    y = MAPPINGS[op](x)
    dead = -torch.inf if op == "log_softmax" else 0.0
    assert y[0].tolist() == y[2].tolist() == [dead] * 5
    assert y[1].argmax() == 2
    assert (y[1] > dead).sum() == 1
    y.masked_fill(y == -torch.inf, 0).square().sum().backward()
    assert not x.grad[[0, 2]].any()
    assert x.grad.isfinite().all()


def test_masked_entries_of_a_log_softmax_take_no_gradient(backend, device):
    x = torch.tensor([[1.0, -torch.inf, 2.0], [-torch.inf] * 3], device=device, requires_grad=True)
    log_softmax(x).backward(torch.tensor([[1.0, 5.0, 0.0], [1.0, 2.0, 3.0]], device=device))
    p = torch.tensor([-1.0, 0.0]).softmax(0)
    torch.testing.assert_close(x.grad.cpu(), torch.tensor([[1 - p[0], 0, -p[1]], [0, 0, 0]]))


@every
def test_nan_is_not_hidden(op, backend, device):
    x = torch.randn(3, 5, device=device)
    x[1, 2] = torch.nan
    y = MAPPINGS[op](x.requires_grad_())
    assert y[1].isnan().all() if backend == "triton" else y[1].isnan().any()
    assert y[[0, 2]].isfinite().all()
    y.backward(torch.randn_like(y))
    assert x.grad[1].isnan().any()
    assert x.grad[[0, 2]].isfinite().all()


@every
def test_empty(op, backend, device):
    for shape in [(0, 5), (3, 0), (2, 0, 4)]:
        x = torch.randn(shape, device=device, requires_grad=True)
        y = MAPPINGS[op](x)
        y.sum().backward()
        assert y.shape == x.grad.shape == x.shape


@every
def test_output_dtype_survives_autocast(op, backend, device):
    x = torch.randn(3, 5, device=device, dtype=torch.bfloat16)
    with torch.autocast(device, torch.bfloat16):
        assert MAPPINGS[op](x).dtype == torch.bfloat16


# kernels against references


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("cols", [1, 2, 3, 127, 1023])
def test_parity(op, dtype, cols, parity, device):
    # the gradient of a log-softmax uses its rounded output against a sum over the row
    loose = {"rtol": 5e-2, "atol": 5e-2} if op == "log_softmax" and dtype != torch.float32 else {}
    parity(op, MAPPINGS[op], (torch.randn(5, cols, device=device) * 2).to(dtype), **loose)


@every
@pytest.mark.parametrize("cols", [4096, *(pytest.param(n, marks=needs_gpu) for n in (65537, 1_000_003))])
def test_parity_of_long_rows(op, cols, parity, device):
    path = "rows" if cols == 4096 else "loop" if op in SPARSE else "split"
    x = torch.randn(2, cols, device=device) * 2
    if cols == 4096:
        parity(op, MAPPINGS[op], x)
    else:  # the sparse kernels use one program for a row forward, and several backward
        parity(op, MAPPINGS[op], x, path=path, backward=op not in SPARSE)


@every
@pytest.mark.parametrize("rows", [1, 7])
@pytest.mark.parametrize("level", [0, -1000])
def test_parity_of_wide_rows(op, rows, level, parity, narrow, device):
    """One row is split between programs, seven are looped over. Scores far below 0 must not meet the 0 that stands for rows of -inf."""
    sparse = op in SPARSE
    x = torch.randn(rows, 130, device=device) + level
    x[0, ::3] = -torch.inf
    parity(op, MAPPINGS[op], x, path="split" if rows == 1 and not sparse else "loop", backward=not (sparse and rows == 1))


@every
def test_split_backward(op, narrow, device):
    x = torch.randn(1, 130, device=device, requires_grad=True)
    grad = torch.randn(1, 130, device=device)
    (expected,) = torch.autograd.grad(MAPPINGS[op](x), x, grad)
    with dispatch.backend("triton"):
        (got,) = torch.autograd.grad(MAPPINGS[op](x), x, grad)
    assert dispatch.used()[f"{op}_backward", "triton", "split"] == 1
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


@every
def test_parity_of_extreme_values(op, parity, device):
    x = torch.randn(4, 40, device=device) * 1e4
    x[1] = 1e4
    x[2, ::2] = -1e4
    parity(op, MAPPINGS[op], x)
    x[:, ::5] = -torch.inf
    parity(op, MAPPINGS[op], x)


@every
@pytest.mark.parametrize("view", ["transposed", "sliced", "leading", "expanded"])
def test_parity_of_views(op, view, parity, device):
    x = torch.randn(6, 8, 10, device=device)
    x = {
        "transposed": x.transpose(0, 2),
        "sliced": x[:, ::2, 1:7],
        "leading": x[:, :, 3:4].transpose(1, 2),
        "expanded": x[:, :1].expand(6, 8, 10),
    }[view]
    parity(op, lambda x: MAPPINGS[op](x, dim=1), x)


@pytest.mark.parametrize("op", ["softmax", "log_softmax", "softmax_plus_one"])
@pytest.mark.parametrize(("shape", "wide"), [*((s, False) for s in [(), (20,), (5, 1), (5, 20), (3, 1, 1), (2, 1, 5, 20), (2, 3, 5, 20)]), ((5, 20), True)])
def test_parity_of_masks(op, shape, wide, parity, request, device):
    if wide:
        request.getfixturevalue("narrow")
        shape = tuple(100 if n == 20 else n for n in shape)
    x = torch.randn(2, 1 if wide else 3, 5, 100 if wide else 20, device=device)
    path = "loop" if wide else "rows"
    keep = torch.rand(shape, device=device) > 0.4
    parity(op, lambda x: MAPPINGS[op](x, mask=keep, temperature=0.5, causal=True), x, path=path)
    bias = torch.randn(shape, device=device)
    parity(op, lambda x, bias: MAPPINGS[op](x, mask=bias, temperature=2.0), x, bias, path=path)


def test_a_mask_that_cannot_be_addressed_by_three_strides(parity, device):
    bias = torch.randn(2, 3, 2, 3, 2, 7, device=device)[:, :1, :, :1]
    parity("softmax", lambda x, b: softmax(x, mask=b), torch.randn(2, 3, 2, 3, 2, 7, device=device), bias)


@pytest.mark.parametrize("alpha", [1.01, 1.05, 1.75, 2.5, 4.0, 20.0])
def test_parity_over_alpha(alpha, parity, device):
    loose = {"rtol": 1e-3, "atol": 1e-4}
    x = torch.randint(-8, 8, (6, 50), device=device) / 8
    parity("entmax", lambda x: entmax(x, alpha), x, **loose)


@pytest.mark.parametrize("alpha", [1.1, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("values", ["equal", "geometric", "two", "one"])
def test_convergence_on_hard_rows(alpha, values, device):
    """Every entry tied, entries that leave the support one by one, and supports of one and two."""
    x = {
        "equal": torch.zeros(2, 500),
        "geometric": (-(2.0 ** -torch.arange(40.0)) * 3).expand(2, 40),
        "two": torch.tensor([[0.0, -1e-3] + [-30.0] * 50]),
        "one": torch.tensor([[5.0] + [-30.0] * 50]),
    }[values].to(device)
    with dispatch.backend("triton"):
        y = entmax(x, alpha)
    torch.testing.assert_close(y.double(), entmax(x.double(), alpha), rtol=2e-4, atol=1e-6)
    torch.testing.assert_close(y.sum(-1), torch.ones_like(y[:, 0]), rtol=1e-5, atol=0)


@pytest.mark.parametrize("alpha", [30.0, 200.0])
def test_ties_under_a_large_alpha_share_the_row(alpha, backend, narrow, device):
    """The threshold n^(1 - alpha) is less than float32 holds."""
    for ties in (3, 60, 1000):
        x = torch.randn(1, 1000, device=device).clamp_max(1)
        x[:, :ties] = 2
        expected = (x == 2) / ties
        torch.testing.assert_close(entmax(x, alpha), expected)
        x = x[:, :60]
        torch.testing.assert_close(entmax(x, torch.tensor(alpha)), (x == 2) / min(ties, 60))


@pytest.mark.parametrize("op", ["sparsemax", "entmax15"])
def test_the_closing_step_is_exact(op, device):
    x = torch.randn(200, 60, device=device)
    with dispatch.backend("triton"):
        y = MAPPINGS[op](x)
    assert (y.double().sum(-1) - 1).abs().max() < 3e-7


@every
def test_second_derivative_of_the_kernel(op, device):
    x, w = torch.randn(3, 6, device=device, requires_grad=True), torch.randn(3, 6, device=device)
    found = []
    for choice in ("reference", "triton"):
        with dispatch.backend(choice):
            (first,) = torch.autograd.grad((MAPPINGS[op](x) * w).sum(), x, create_graph=True)
            found += [torch.autograd.grad(first.square().sum(), x)[0]]
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


# properties of the kernels

rows = st.lists(st.integers(-40, 40).map(lambda n: n / 8), min_size=1, max_size=40)
examples = settings(max_examples=12, deadline=None, derandomize=True)


@pytest.mark.parametrize("op", ["softmax", *SPARSE])
@examples
@given(rows, st.integers(-100, 100), st.randoms(use_true_random=False))
def test_properties(op, values, shift, random):
    f = MAPPINGS[op]
    x = torch.tensor([values], device="cuda" if torch.cuda.is_available() else "cpu")
    order = list(range(len(values)))
    random.shuffle(order)
    with dispatch.backend("triton"):
        y, moved, permuted = f(x), f(x + shift), f(x[:, order])
    torch.testing.assert_close(y.sum(), y.new_ones(()))
    assert (y >= 0).all()
    torch.testing.assert_close(moved, y)
    torch.testing.assert_close(permuted, y[:, order])
    rank = x[0].argsort()
    assert (y[0, rank].diff() >= 0).all()
    if op in SPARSE:
        assert torch.equal(y == 0, f(x.double()) == 0)


# torch's own checks


def test_opcheck(device):
    x = torch.randn(2, 5, device=device, requires_grad=True)
    bias = torch.randn(5, device=device, requires_grad=True).expand(2, 5)
    torch.library.opcheck(fused_softmax, (x, bias, 0.5, True, "log_softmax"))
    torch.library.opcheck(fused_entmax, (x, 1.5, "entmax15"))
    torch.library.opcheck(family_backward, (x.detach().softmax(-1), x.detach(), 1.0, 0.0, "softmax"))


def test_compiles_without_a_graph_break(device):
    def f(x):
        return (softmax(x, mask=x > -1) * entmax15(x, dim=0)).sum()

    x = torch.randn(3, 5, device=device, requires_grad=True)
    (expected,) = torch.autograd.grad(f(x), x)
    with dispatch.backend("triton"):
        dispatch.reset()
        (got,) = torch.autograd.grad(torch.compile(f, fullgraph=True, backend="aot_eager")(x), x)
    kinds = {"softmax", "softmax_backward", "entmax15", "entmax15_backward"}
    assert dispatch.used() == {(kind, "triton", "rows"): 1 for kind in kinds}
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("f", [softmax, log_softmax])
def test_rows_of_the_lowest_numbers_are_rows_of_equals_at_any_temperature(f, narrow, device):
    """Kernels take differences before they scale, where a division first would make -inf of the scores."""
    for cols in (5, 130):
        x = torch.full((2, cols), torch.finfo(torch.float32).min, device=device)
        with dispatch.backend("triton"):
            y = f(x, temperature=0.3)
        torch.testing.assert_close(y.exp() if f is log_softmax else y, torch.full_like(x, 1 / cols))
