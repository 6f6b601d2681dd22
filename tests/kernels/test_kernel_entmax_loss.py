"""Losses of sparse softmaxes: against their closed forms and another package, and the kernel against the reference."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.kernels import dispatch, entmax, entmax_loss, sparsemax_loss
from runner.kernels.entmax_loss import entmax_loss_backward, fused_entmax_loss

INF = float("inf")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TOLERANCE = {torch.float32: (2e-5, 1e-5), torch.float16: (2e-3, 1e-3), torch.bfloat16: (1.6e-2, 8e-3)}
ALPHAS = (1.25, 1.5, 2.0, 3.0)
every = pytest.mark.parametrize("alpha", ALPHAS)
both = pytest.mark.parametrize("kind", ["hard", "soft"])
RAN = {("entmax_loss", "triton", "rows"): 1, ("entmax_loss_backward", "triton", "rows"): 1}


def make(kind, rows, cols, device=DEVICE, dtype=torch.float32):
    """Logits, and a target that is hard (some samples ignored) or soft."""
    logits = (torch.randn(rows, cols, device=device) * 2).to(dtype)
    if kind == "soft":
        return logits, torch.randn(rows, cols, device=device).softmax(-1).to(dtype)
    target = torch.randint(cols, (rows,), device=device)
    target[::4] = -100
    return logits, target


def check(f, logits, target, rtol=None, atol=None):
    """Loss and gradient of the kernel against the reference in float64, both ways to the gradient, and that the kernel ran."""
    rtol, atol = rtol or TOLERANCE[logits.dtype][0], atol or TOLERANCE[logits.dtype][1]
    double, single = logits.detach().double().requires_grad_(), logits.detach().requires_grad_()
    with dispatch.backend("reference"):
        expected = f(double, target)
    dispatch.reset()
    with dispatch.backend("triton"):
        got = f(single, target)
        grad = torch.rand_like(got) + 0.5
        got.backward(grad)
        assert dispatch.used() == RAN
        loss, slope = f(single, target, gradient=True)
    expected.backward(grad.double())
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), expected, rtol=2e-5, atol=1e-5)
    torch.testing.assert_close(single.grad.double(), double.grad, rtol=rtol, atol=atol)
    torch.testing.assert_close(loss, got.detach())
    torch.testing.assert_close(slope.double() * grad[..., None], double.grad, rtol=rtol, atol=atol)


def test_against_the_package():
    package = pytest.importorskip("entmax")
    z, y = (2 * torch.randn(50, 7, dtype=torch.float64)).requires_grad_(), torch.randint(7, (50,))
    bisect = lambda alpha: partial(package.entmax_bisect_loss, alpha=alpha, n_iter=60)
    for alpha, theirs in ((1.5, package.entmax15_loss), (2.0, package.sparsemax_loss), (1.25, bisect(1.25)), (3.0, bisect(3.0))):
        a, b = entmax_loss(z, y, alpha), theirs(z, y)
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(*(torch.autograd.grad(x.sum(), z)[0] for x in (a, b)), rtol=1e-9, atol=1e-9)


def test_sparsemax_loss_of_two_classes():
    """Martins & Astudillo 2016, section 3.3: of the lead t of the label, 0 for t >= 1, -t for t <= -1, and (t - 1)^2 / 4 between."""
    lead = torch.linspace(-3, 3, 61, dtype=torch.float64, requires_grad=True)
    loss = sparsemax_loss(torch.stack([lead, torch.zeros_like(lead)], -1), torch.zeros(61, dtype=torch.long))
    torch.testing.assert_close(loss, torch.where(lead >= 1, 0, torch.where(lead <= -1, -lead, (lead - 1) ** 2 / 4)))


@every
def test_is_a_fenchel_young_loss(alpha):
    """The value at p is a maximum over distributions; 0 where p = t and beyond the margin 1 / (alpha - 1); its gradient is p - t."""
    z, t = torch.randn(6, 5, dtype=torch.float64), torch.randn(6, 5, dtype=torch.float64).softmax(-1)
    loss, grad = entmax_loss(z, t, alpha, gradient=True)
    torch.testing.assert_close(grad, entmax(z, alpha) - t)
    entropy = lambda p: (p - p**alpha).sum(-1) / (alpha * (alpha - 1))
    for _ in range(20):
        p = torch.randn(6, 5, dtype=torch.float64).softmax(-1)
        assert (((p - t) * z).sum(-1) + entropy(p) - entropy(t) <= loss + 1e-12).all()
    loss, grad = entmax_loss(t ** (alpha - 1) / (alpha - 1), t, alpha, gradient=True)
    assert loss.abs().max() < 1e-9
    assert grad.abs().max() < 1e-7
    led = torch.tensor([[1 / (alpha - 1) + 1e-6, 0, 0]])
    loss, grad = entmax_loss(led, torch.tensor([0]), alpha, gradient=True)
    assert abs(loss) < 1e-6
    assert grad.abs().max() < 1e-6


@both
def test_alpha_1_is_cross_entropy_less_the_entropy_of_the_target(kind):
    z, t = make(kind, 6, 5)
    loss, grad = entmax_loss(z, t, 1.0, gradient=True)
    less = (t * t.log()).sum(-1) if kind == "soft" else 0
    torch.testing.assert_close(loss, F.cross_entropy(z, t, reduction="none") + less)
    torch.testing.assert_close(entmax_loss(z.double(), t, 1.0001).float(), loss, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(entmax_loss(z, t, 1.0), loss)
    torch.testing.assert_close(grad.sum(), torch.zeros(()).to(grad), atol=1e-5, rtol=0)


@every
@both
def test_reference_gradients(alpha, kind):
    logits, target = make(kind, 4, 4, "cpu", torch.float64)
    logits.requires_grad_()
    target.requires_grad_(kind == "soft")
    f = lambda x, *t: entmax_loss(x, *(t or (target,)), alpha)
    inputs = (logits, target) if kind == "soft" else (logits,)
    assert torch.autograd.gradcheck(f, inputs)
    assert torch.autograd.gradgradcheck(f, inputs)


@every
def test_a_learnt_target_may_have_zeros(alpha):
    """The slope of its entropy there is that of p / (alpha (alpha - 1)) alone."""
    z, t = torch.randn(3, 4, dtype=torch.float64), torch.tensor([[0.0, 0.5, 0.5, 0.0]] * 3, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(entmax_loss(z, t, alpha).sum(), t)
    torch.testing.assert_close(grad, -z - (1 - alpha * t.detach() ** (alpha - 1)) / (alpha * (alpha - 1)))


@every
@both
@pytest.mark.parametrize("cols", [1, 2, 3, 127])
def test_parity(alpha, kind, cols):
    check(partial(entmax_loss, alpha=alpha), *make(kind, 5, cols))


@both
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_parity_of_other_dtypes_and_longer_rows(kind, dtype):
    for alpha in ALPHAS:
        check(partial(entmax_loss, alpha=alpha), *make(kind, 5, 33, dtype=dtype))
    check(sparsemax_loss, *make(kind, 2, 1023, dtype=dtype))
    check(entmax_loss, *make(kind, 2, 4096))


@every
@both
def test_parity_of_views_and_extremes(alpha, kind):
    f = partial(entmax_loss, alpha=alpha)
    x, t = torch.randn(4, 7, 3, device=DEVICE).transpose(1, 2), make(kind, 12, 7)[1]
    check(f, x, t.view(4, 3, *t.shape[1:]))
    check(f, x[:, ::2], t[:2])
    x = torch.randn(5, 40, device=DEVICE) * 1e4
    x[0], x[1] = 1e4, -1e4
    x[:, 5::5] = -INF
    x[2], x[3, 1:] = -INF, -INF
    t = torch.zeros(5, dtype=torch.long, device=DEVICE) if kind == "hard" else F.one_hot(torch.tensor([0, 1, 2, 0, 3]), 40).to(x)
    check(f, x, t)


@every
@both
def test_wide_rows(alpha, kind, narrow):
    """Rows over a quarter of the widest go through the mapping's kernel."""
    logits, target = make(kind, 2, 150)
    logits[0, 100:] = -INF
    f = partial(entmax_loss, alpha=alpha)
    expected, slope = f(logits.double(), target, gradient=True)
    dispatch.reset()
    with dispatch.backend("triton"):
        got, grad = f(logits, target, gradient=True)
    name = {1.5: "entmax15", 2.0: "sparsemax"}.get(alpha, "entmax")
    assert dispatch.used() == {(name, "triton", "loop"): 1}
    torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(grad.double(), slope, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cols", [65537, 1_000_003])
def test_very_long_rows(cols):
    logits, target = torch.randn(1, cols, device=DEVICE, dtype=torch.float64), torch.tensor([7], device=DEVICE)
    for alpha in (1.5, 2.0):
        loss, grad = entmax_loss(logits.float(), target, alpha, gradient=True)
        expected, slope = entmax_loss(logits, target, alpha, gradient=True)
        torch.testing.assert_close(loss.double(), expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(grad.double(), slope, rtol=1e-3, atol=1e-5)


@every
@pytest.mark.parametrize("backend", ["reference", "triton"])
def test_edges(alpha, backend):
    """No rows, rows of -inf alone, an excluded label, excluded classes, NaN, ignored samples, a class out of range, autocast."""
    f = partial(entmax_loss, alpha=alpha)
    with dispatch.backend(backend):
        assert f(torch.randn(0, 3, device=DEVICE), torch.empty(0, dtype=torch.long, device=DEVICE)).shape == (0,)
        x = torch.tensor([[-INF] * 3, [0.0, -INF, 0.5], [-INF] * 3, [1.0, 2.0, 3.0], [0.0, -INF, 0.6]], device=DEVICE)
        loss, grad = f(x, torch.tensor([0, 1, 7, 7, 0], device=DEVICE), ignore_index=7, gradient=True)
        assert loss[:4].tolist() == [INF, INF, 0, 0]
        assert not grad[[0, 2, 3]].any()
        assert not grad[:, 1].any()
        present, slope = f(x[4:, [0, 2]], torch.tensor([0], device=DEVICE), gradient=True)
        torch.testing.assert_close(loss[4:], present)
        torch.testing.assert_close(grad[4:, [0, 2]], slope)
        x[4, 0] = torch.nan
        assert f(x[3:], torch.tensor([0, 2], device=DEVICE)).isnan().tolist() == [False, True]
        for target in (torch.tensor([2], device=DEVICE), torch.tensor([[0.2, 0.0, 0.8]], device=DEVICE)):
            assert f(x[4:], target, gradient=True)[1][0, [0, 2]].isnan().all()
        y = torch.randn(2, 3, device=DEVICE, requires_grad=True)
        (f(y, torch.tensor([-100, -100], device=DEVICE)).sum() / torch.zeros((), device=DEVICE)).backward()  # the mean over none
        assert not y.grad.any()
        with torch.autocast(DEVICE, torch.bfloat16):
            assert f(y.bfloat16(), torch.tensor([0, 1], device=DEVICE)).dtype == torch.float32
        if backend == "triton":
            assert f(y, torch.tensor([3, -1], device=DEVICE)).isnan().all()
            with pytest.raises(RuntimeError, match="requires gradients"):
                f(y, torch.rand(2, 3, device=DEVICE, requires_grad=True))
        with pytest.raises(ValueError, match="alpha must be at least 1"):
            entmax_loss(y, torch.tensor([0, 1]), 0.5)


@every
@both
def test_second_derivative_of_the_kernel(alpha, kind):
    logits, target = make(kind, 5, 6)
    logits.requires_grad_()
    found = []
    for choice in ("reference", "triton"):
        with dispatch.backend(choice):
            (first,) = torch.autograd.grad(entmax_loss(logits, target, alpha).square().sum(), logits, create_graph=True)
            found += [torch.autograd.grad(first.square().sum(), logits)[0]]
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-3)


@every
@settings(max_examples=8, deadline=None, derandomize=True)
@given(st.lists(st.integers(-40, 40).map(lambda n: n / 8), min_size=1, max_size=20), st.data())
def test_properties(alpha, values, data):
    """Not negative; invariant to translation; gradients sum to 0; falls with the label's logit."""
    x, y = torch.tensor([values], device=DEVICE), torch.tensor([data.draw(st.integers(0, len(values) - 1))], device=DEVICE)
    with dispatch.backend("triton"):
        loss, grad = entmax_loss(x, y, alpha, gradient=True)
        moved, _ = entmax_loss(x + 3, y, alpha, gradient=True)
    torch.testing.assert_close(moved, loss, rtol=1e-4, atol=1e-5)
    assert loss >= -1e-5
    assert abs(grad.sum()) < 1e-5
    assert grad[0, y] <= 1e-6


def test_opcheck_compile_and_transforms():
    logits, target = make("hard", 4, 5)
    logits.requires_grad_()
    torch.library.opcheck(fused_entmax_loss, (logits, target, 1.5, -100, True))
    torch.library.opcheck(entmax_loss_backward, (torch.ones(4, device=DEVICE), logits.detach()))

    def f(x):
        return sum(entmax_loss(x, target, alpha).sum() for alpha in ALPHAS)

    (expected,) = torch.autograd.grad(f(logits), logits)
    for choice in ("reference", "triton"):
        with dispatch.backend(choice):
            dispatch.reset()
            (got,) = torch.autograd.grad(torch.compile(f, fullgraph=True, backend="aot_eager")(logits), logits)
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    assert dispatch.used() == dict.fromkeys(RAN, 4)
    labels = target.clamp_min(0)
    for alpha in ALPHAS:
        each = torch.func.vmap(torch.func.grad(lambda x, t, alpha=alpha: entmax_loss(x, t, alpha)))(logits.detach(), labels)
        torch.testing.assert_close(each, entmax_loss(logits, labels, alpha, gradient=True)[1], rtol=1e-4, atol=1e-5)


def test_every_kernel_compiles_for_hopper():
    triton = pytest.importorskip("triton")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    script = Path(__file__).with_name("hopper_label_losses.py")
    ran = subprocess.run([sys.executable, script, "entmax"], capture_output=True, text=True, env=environment)
    assert ran.returncode == 0, ran.stderr[-3000:]
    *compiled, number = map(json.loads, ran.stdout.splitlines())
    assert number == len(compiled) >= 5
    stack = 64 if tuple(map(int, triton.__version__.split(".")[:2])) >= (3, 7) else 144  # older ones spill a little
    for line in compiled:
        assert line["shared"] <= 227 * 1024, line
        assert line["stack"] <= stack, line
