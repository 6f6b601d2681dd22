"""Softpick, Gumbel-softmax and top-k softmax: references against definitions and known answers, kernels against references."""

import math
import sys
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.kernels import dispatch, gumbel_softmax, softmax, softpick, sparse_topk_softmax, topk_softmax
from runner.kernels.gumbel_softmax import _known, _torchs, _words, fused_gumbel_softmax, gumbel_noise, philox
from runner.kernels.softpick import fused_softpick, softpick_backward
from runner.kernels.topk_softmax import fused_topk_softmax, topk_softmax_backward

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ROWS = {"softpick": softpick, "gumbel_softmax": partial(gumbel_softmax, tau=0.7, seed=5)}
every = pytest.mark.parametrize("op", ROWS)


@pytest.fixture(params=["reference", "triton"])
def backend(request):
    with dispatch.backend(request.param):
        yield request.param


@every
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cols", [1, 2, 3, 127, 1023, 4096])
def test_parity(op, dtype, cols, parity, device):
    parity(op, ROWS[op], (torch.randn(3, cols, device=device) * 2).to(dtype))


@every
def test_parity_of_views_and_extremes(op, parity, device):
    loose = {"rtol": 1e-4, "atol": 1e-5 if op == "softpick" else 2e-3}  # noise on 1e4 is lost in float32's last digits
    x = torch.randn(6, 8, 10, device=device)
    for view in (x.transpose(0, 2), x[:, ::2, 1:7], x[:, :1].expand(6, 8, 10)):
        parity(op, lambda x: ROWS[op](x, dim=1), view, **loose)
    x = torch.randn(4, 40, device=device) * 1e4
    x[:, ::5] = -torch.inf
    x[1], x[2] = 1e4, -1e4
    parity(op, ROWS[op], x, **loose)


@every
def test_edges(op, backend, device):
    """No rows, no columns, rows of -inf alone, NaN, and second derivatives."""
    f = ROWS[op]
    for shape in [(0, 5), (3, 0)]:
        assert f(torch.randn(shape, device=device)).shape == shape
    x = torch.full((2, 5), -torch.inf, device=device, requires_grad=True)
    y = f(x)
    y.sum().backward()
    assert not y.any()
    assert not x.grad.any()
    x = torch.randn(2, 5, device=device)
    x[0, 1] = torch.nan
    y = f(x)
    assert y[0].isnan().any()
    assert y[1].isfinite().all()


def test_nan_of_one_row_changes_no_other(backend, device):
    x = torch.randn(3, 6, device=device)
    x[:, ::3], x[1, 1] = -torch.inf, torch.nan
    torch.testing.assert_close(softpick(x)[::2], softpick(x[::2]))


@pytest.mark.parametrize("f", [*ROWS.values(), lambda x: topk_softmax(x, 2)[0]])
def test_integers_are_refused(f):
    with pytest.raises(TypeError, match=r"float type, not torch\.int64"):
        f(torch.arange(5))


@every
def test_second_derivative(op, device):
    torch.autograd.gradcheck(ROWS[op], torch.randn(3, 6, dtype=torch.float64, requires_grad=True))
    torch.autograd.gradgradcheck(ROWS[op], torch.randn(3, 6, dtype=torch.float64, requires_grad=True))
    x, w = torch.randn(3, 6, device=device, requires_grad=True), torch.randn(3, 6, device=device)
    found = []
    for choice in ("reference", "triton"):
        with dispatch.backend(choice):
            (first,) = torch.autograd.grad((ROWS[op](x) * w).sum(), x, create_graph=True)
            found += [torch.autograd.grad(first.square().sum(), x)[0]]
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


def test_rows_too_wide_are_refused(narrow, device):
    x = torch.randn(2, 100, device=device)
    with dispatch.backend("triton"), pytest.raises(RuntimeError, match="rows of more than 64 columns"):
        softpick(x)


# softpick


def test_softpick_is_its_definition(backend, device):
    x = torch.tensor([[1.0, -1.0, 0.0, 2.0, -torch.inf]], device=device)
    e = x.exp() - 1
    torch.testing.assert_close(softpick(x, eps=1e-3), e.relu() / (e[:, :4].abs().sum() + 1e-3))
    assert not softpick(-x.abs()).any()


@pytest.mark.parametrize("scale", [1e-8, 1e-5, 1e-3, 0.1, 10.0, 1000.0])
def test_softpick_of_small_scores_keeps_their_digits(scale, backend, device):
    """exp(x) - 1 loses all of x below 1e-7."""
    x = torch.randn(4, 30, device=device) * scale
    e = x.double().expm1() if scale < 50 else (x.double() - x.double().amax(-1, keepdim=True)).exp()
    expected = e.where(x > 0, 0) / (e.abs().where((x > 0) | torch.tensor(scale < 50, device=device), 0).sum(-1, keepdim=True) + 1e-6 * (scale < 50))
    torch.testing.assert_close(softpick(x), expected.float(), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 300.0])
def test_softpick_gradients_over_scales(scale, device):
    """First and second, where the reference shifts the exponentials and where it need not."""
    x = torch.randn(3, 6, dtype=torch.float64) * scale
    found = []
    for choice, dtype in (("reference", torch.float64), ("triton", torch.float32)):
        z = x.to(device, dtype, copy=True).requires_grad_()
        with dispatch.backend(choice):
            (plain,) = torch.autograd.grad(softpick(z)[:, 0].sum(), z)
            (first,) = torch.autograd.grad(softpick(z)[:, 0].sum(), z, create_graph=True)
            found.append([v.double() for v in (plain, first, *torch.autograd.grad((first * x.to(first)).sum(), z))])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6 * b.abs().max().clamp_min(1e-3).item())


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.lists(st.integers(-40, 40).map(lambda n: n / 8), min_size=1, max_size=40))
def test_softpick_properties(values):
    x = torch.tensor([values], device=DEVICE)
    with dispatch.backend("triton"):
        y = softpick(x)
    assert torch.equal(y == 0, x <= 0)
    assert 0 <= y.sum() < 1 + 1e-6
    assert (y[0, x[0].argsort()].diff() >= 0).all()


# Gumbel-softmax


def test_philox_known_answers():
    """Random123's test vectors of philox4x32-10."""
    word = partial(torch.tensor, dtype=torch.int64)
    for counter, seed, answer in [
        ([0, 0, 0, 0], 0, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, -1, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        ([0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344], 0x299F31D0_A4093822, [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]),
    ]:
        assert [int(w) for w in philox(tuple(map(word, counter)), seed)] == answer


@pytest.mark.skipif(not _known(), reason="this torch has no Philox of its own with the same order of words")
@pytest.mark.parametrize("seed", [0, -1, 2**40 + 5, -(2**63)])
@pytest.mark.parametrize("shape", [(128, 10), (1, 1), (3, 4), (5, 1003), (0, 3)])
def test_torchs_philox_gives_the_words_of_ours(shape, seed):
    seed = torch.tensor(seed)
    assert torch.equal(_torchs(*shape, seed).long() & 0xFFFFFFFF, _words(*shape, seed))


def test_gumbel_noise_without_torchs_philox_is_the_same(monkeypatch):
    given = gumbel_noise((3, 5, 7), -9)
    monkeypatch.setattr(sys.modules[gumbel_noise.__module__], "_known", lambda: False)
    assert torch.equal(gumbel_noise((3, 5, 7), -9), given)


def test_gumbel_softmax_is_a_softmax_of_noised_logits(backend, device):
    x = torch.randn(4, 5, 6, device=device)
    noise = gumbel_noise((4, 6, 5), 9, device).movedim(-1, 1)
    torch.testing.assert_close(gumbel_softmax(x, 0.5, dim=1, seed=9), ((x + noise) / 0.5).softmax(1))


def test_gumbel_softmax_seeds(backend, device):
    x = torch.randn(3, 7, device=device)
    for seed in (0, 3, 2**40, -1):
        assert torch.equal(gumbel_softmax(x, seed=seed), gumbel_softmax(x, seed=torch.tensor(seed, device=device)))
    assert not torch.equal(gumbel_softmax(x, seed=1), gumbel_softmax(x, seed=1 + 2**40))
    torch.manual_seed(1)
    first, second = gumbel_softmax(x), gumbel_softmax(x)
    torch.manual_seed(1)
    assert torch.equal(gumbel_softmax(x), first)
    assert not torch.equal(first, second)
    with pytest.raises(ValueError, match="tau"):
        gumbel_softmax(x, 0.0)


def test_gumbel_softmax_samples_the_softmax(backend, device):
    """The argmax of noised logits follows the softmax: chi-square below its 0.9999 quantile for 4 degrees of freedom."""
    x = torch.tensor([0.0, 1.0, -1.0, 2.0, 0.5], device=device)
    n = 20_000
    counts = gumbel_softmax(x.expand(n, 5), hard=True, seed=3).sum(0)
    expected = n * x.softmax(-1)
    assert counts.sum() == n
    assert ((counts - expected) ** 2 / expected).sum() < 23.5


def test_gumbel_noise_of_the_largest_word_is_finite(backend, device):
    """Of entry (26, 138) under seed 1 all upper 24 bits are ones."""
    noise = gumbel_noise((27, 139), 1, device)
    assert noise[26, 138] == noise.max() == -torch.tensor(2**-24).log().to(device)
    y = gumbel_softmax(torch.zeros(27, 139, device=device), seed=1)
    torch.testing.assert_close(y[26], noise[26].softmax(-1))


def test_gumbel_softmax_hard(backend, device):
    x = torch.randn(6, 7, device=device, requires_grad=True)
    hard, soft = gumbel_softmax(x, hard=True, seed=2), gumbel_softmax(x, seed=2)
    torch.testing.assert_close(hard, F.one_hot(soft.argmax(-1), 7).float())
    w = torch.randn(6, 7, device=device)
    torch.testing.assert_close(torch.autograd.grad((hard * w).sum(), x)[0], torch.autograd.grad((soft * w).sum(), x)[0])


def test_gumbel_softmax_hard_excludes_and_does_not_round(backend, device):
    """Two equal logits in bfloat16: of 200,000 samples 5 standard deviations are 0.0056. Relaxed ones at tau = 10 often round to a tie."""
    assert not gumbel_softmax(torch.full((2, 3), -torch.inf, device=device), hard=True, seed=1).any()
    y = gumbel_softmax(torch.zeros(200_000, 2, device=device, dtype=torch.bfloat16), 10.0, hard=True, seed=1)
    assert y.dtype == torch.bfloat16
    assert y[:, 0].float().mean().item() == pytest.approx(0.5, abs=0.0056)


# top-k softmax


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("cols", "k"), [(1, 1), (3, 3), (8, 2), (127, 5), (1023, 2), (64, 64)])
@pytest.mark.parametrize("renormalise", [False, True])
def test_topk_softmax_parity(dtype, cols, k, renormalise, device):
    """With ties, which go to the lowest index."""
    x = (torch.randint(-20, 20, (5, cols), device=device) / 4).to(dtype)
    double, single = x.double().requires_grad_(), x.clone().requires_grad_()
    values, best = topk_softmax(double, k, temperature=0.5, renormalise=renormalise)
    dispatch.reset()
    with dispatch.backend("triton"):
        got, at = topk_softmax(single, k, temperature=0.5, renormalise=renormalise)
    grad = torch.randn_like(got)
    values.backward(grad.double())
    got.backward(grad)
    assert dispatch.used() == {("topk_softmax", "triton", "rows"): 1, ("topk_softmax_backward", "triton", "rows"): 1}
    assert torch.equal(at, best)
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 1.6e-2, "atol": 1e-2}
    torch.testing.assert_close(got.double(), values, **tolerance)
    torch.testing.assert_close(single.grad.double(), double.grad, **tolerance)


def test_topk_softmax_against_torch(backend, device):
    x = torch.randn(2, 3, 50, device=device)
    values, best = x.softmax(-1).topk(4)
    got = topk_softmax(x, 4)
    torch.testing.assert_close(got[0], values)
    assert torch.equal(got[1], best)
    torch.testing.assert_close(topk_softmax(x, 4, renormalise=True)[0], values / values.sum(-1, keepdim=True))


def test_topk_softmax_edges(backend, device):
    x = torch.tensor([[-torch.inf, 1.0, -torch.inf, 0.0], [-torch.inf] * 4, [0.0, -0.0, 1e4, -1e4]], device=device)
    values, best = topk_softmax(x, 3)
    assert best.tolist() == [[1, 3, 0], [0, 1, 2], [2, 0, 1]]
    assert values[1].tolist() == [0, 0, 0]
    assert values[2].tolist() == [1, 0, 0]
    assert topk_softmax(x[:0], 2)[0].shape == (0, 2)
    for k in (0, 5):
        with pytest.raises(ValueError, match="k must lie"):
            topk_softmax(x, k)
    if backend == "triton":
        with pytest.raises(RuntimeError, match="more than 64 entries"):
            topk_softmax(torch.randn(2, 80, device=device), 65)


def test_topk_softmax_gradient_does_not_depend_on_a_shift(device):
    """4096 is far above the logits' differences, and added without rounding."""
    x = torch.randint(-20, 20, (5, 30), device=device) / 64
    found = []
    for shift in (0, 4096):
        z = (x + shift).requires_grad_()
        with dispatch.backend("triton"):
            values, _ = topk_softmax(z, 4, temperature=0.1)
        found += torch.autograd.grad((values * torch.arange(4, device=device)).sum(), z)
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("sign", [1, -1])
def test_topk_of_nan_of_either_sign(sign, backend, device):
    """x86 gives 0 / 0 the sign bit. Beside ties, which are put in order by their bits."""
    x = torch.tensor([[1.0, math.copysign(math.nan, sign), 1.0, 1.0]], device=device)
    values, best = topk_softmax(x, 2, renormalise=True)
    assert best.tolist() == [[1, 0]]
    assert values.isnan().all()
    assert sparse_topk_softmax(x, 2)[0, :2].isnan().all()


@pytest.mark.parametrize("renormalise", [False, True])
def test_topk_softmax_second_derivative(renormalise, device):
    f = lambda x: topk_softmax(x, 2, temperature=0.5, renormalise=renormalise)[0]
    x = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(f, x)
    assert torch.autograd.gradgradcheck(f, x)
    x = torch.randn(3, 6, device=device, requires_grad=True)
    found = []
    for choice in ("reference", "triton"):
        with dispatch.backend(choice):
            (first,) = torch.autograd.grad(f(x).square().sum(), x, create_graph=True)
            found += [torch.autograd.grad(first.square().sum(), x)[0]]
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


# torch's own checks


def test_opcheck(device):
    x = torch.randn(2, 5, device=device, requires_grad=True)
    row = torch.ones(2, device=device)
    torch.library.opcheck(fused_softpick, (x, 1e-6))
    torch.library.opcheck(softpick_backward, (x.detach(), x.detach(), row, row))
    torch.library.opcheck(fused_gumbel_softmax, (x, torch.tensor(3, device=device), 0.5))
    torch.library.opcheck(fused_topk_softmax, (x, 2, 1.0, False))
    values, best = topk_softmax(x.detach(), 2)
    torch.library.opcheck(topk_softmax_backward, (values, x.detach(), values, best, row, 1.0, False))


def test_compiles_without_a_graph_break(device):
    def f(x, seed):
        return (softpick(x) * gumbel_softmax(x, seed=seed)).sum() + topk_softmax(softmax(x), 2)[0].square().sum()

    x, seed = torch.randn(3, 5, device=device, requires_grad=True), torch.tensor(4, device=device)
    (expected,) = torch.autograd.grad(f(x, seed), x)
    with dispatch.backend("triton"):
        dispatch.reset()
        (got,) = torch.autograd.grad(torch.compile(f, fullgraph=True, backend="aot_eager")(x, seed), x)
    names = ("softpick", "gumbel_softmax", "topk_softmax", "softmax")
    assert set(dispatch.used()) == {(name + end, "triton", "rows") for name in names for end in ("", "_backward")}
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
