"""Losses from labels: against what their formulas say, and the kernel against the reference."""

import json
import math
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

from runner.kernels import bi_tempered_loss, clipped_cross_entropy, dispatch, label_loss, ldr_loss
from runner.kernels.label_losses import fused_label_loss, label_loss_backward

INF = float("inf")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TOLERANCE = {torch.float32: (2e-5, 1e-5), torch.float16: (2e-3, 1e-3), torch.bfloat16: (1.6e-2, 8e-3)}
LOSSES = {
    **{name: partial(label_loss, active=name, q=0.6, gamma=1.5) for name in ("ce", "gce", "mae", "focal", "nce", "nfl")},
    **{f"{a}+{b}": partial(label_loss, active=a, passive=b, alpha=0.7, beta=1.3) for a, b in (("nce", "mae"), ("nfl", "rce"), ("ce", "rce"), ("ce", "maxsup"))},
    **{f"clipped_{p}": partial(clipped_cross_entropy, tau=1.5, p=p) for p in (1.0, 2.0, 3.0, INF)},
    "ldr": partial(ldr_loss, lam=2.0, margin=0.3),
    "ldr_plain": partial(ldr_loss, lam=2.0, margin=0.3, normalise=False),
    **{f"bi_tempered_{t1}_{t2}": partial(bi_tempered_loss, t1=t1, t2=t2) for t1, t2 in ((0.8, 1.2), (0.0, 2.0), (1.0, 1.5), (0.5, 1.0))},
}  # fmt: skip
WHOLE = ("ldr", "ldr_plain", *(name for name in LOSSES if name.startswith("bi_")))  # no kernel for rows over 8,192 classes
every = pytest.mark.parametrize("name", LOSSES)
both = pytest.mark.parametrize("kind", ["hard", "soft"])


def make(kind, rows, cols, device=DEVICE, dtype=torch.float32):
    """Logits, and a target that is hard (some samples ignored) or soft."""
    logits = (torch.randn(rows, cols, device=device) * 3).to(dtype)
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
        assert dispatch.used() == {("label_loss", "triton", "rows"): 1, ("label_loss_backward", "triton", "rows"): 1}
        loss, slope = f(single, target, gradient=True)
    expected.backward(grad.double())
    assert got.dtype == torch.float32
    assert not loss.requires_grad
    torch.testing.assert_close(got.double(), expected, rtol=2e-5, atol=1e-5 if atol < 1e-5 else atol)
    torch.testing.assert_close(single.grad.double(), double.grad, rtol=rtol, atol=atol)
    torch.testing.assert_close(loss, got.detach())
    torch.testing.assert_close(slope.double() * grad[..., None], double.grad, rtol=rtol, atol=atol)


def naive(name, z, y, *, q=0.6, gamma=1.5, floor=1e-4, tau=1.5, lam=2.0, margin=0.3):
    """The formulas of the papers for class indices."""
    p = z.softmax(-1)
    own, hot = p.gather(-1, y[:, None])[:, 0], F.one_hot(y, z.shape[-1])
    focal = lambda gamma: -((1 - p) ** gamma) * p.log()
    pick = lambda x: (x * hot).sum(-1)
    if name.startswith("clipped"):
        norm = torch.linalg.vector_norm(z, float(name.split("_")[1]), -1, keepdim=True)
        return F.cross_entropy(torch.where(norm > tau, tau * z / norm, z), y, reduction="none")
    if name.startswith("ldr"):
        z = F.softplus(z) / F.softplus(z).mean(-1, keepdim=True) if name == "ldr" else z
        margins = z - pick(z)[:, None] + margin * (1 - hot)
        weights = (margins / lam).softmax(-1)  # the worst weighting, in the dual form
        return (weights * margins).sum(-1) - lam * (weights * (z.shape[-1] * weights).log()).sum(-1)
    return {
        "ce": -own.log(),
        "gce": (1 - own**q) / q,
        "mae": (hot - p).abs().sum(-1) / 2,
        "focal": pick(focal(gamma)),
        "nce": own.log() / p.log().sum(-1),
        "nfl": pick(focal(gamma)) / focal(gamma).sum(-1),
        "nce+mae": 0.7 * own.log() / p.log().sum(-1) + 1.3 * (1 - own),
        "nfl+rce": 0.7 * pick(focal(2.0)) / focal(2.0).sum(-1) - 1.3 * (p * hot.clamp(floor).log()).sum(-1),
        "ce+rce": -0.7 * own.log() - 1.3 * (p * hot.clamp(floor).log()).sum(-1),
        "ce+maxsup": -0.7 * own.log() + 1.3 * (z.amax(-1) - z.mean(-1)),
    }[name]


@pytest.mark.parametrize("name", [name for name in LOSSES if not name.startswith("bi_")])
def test_formulas(name):
    z, y = 3 * torch.randn(40, 6, dtype=torch.float64, requires_grad=True), torch.randint(6, (40,))
    ours, theirs = LOSSES[name](z, y), naive(name, z, y)
    torch.testing.assert_close(ours, theirs)
    ours, theirs = (torch.autograd.grad(loss.sum(), z)[0] for loss in (ours, theirs))
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("choice", ["reference", "triton"])
@pytest.mark.parametrize("level", [-40.0, -90.0, -200.0])
def test_ldr_of_outputs_that_softplus_rounds_to_zero(level, choice):
    """float64 does not: the formula holds there, and in float32 what it gives."""
    z, y = (level + 5 * torch.randn(8, 6, dtype=torch.float64)).requires_grad_(), torch.randint(6, (8,))
    naive("ldr", z, y).sum().backward()
    x = z.detach().float().to(DEVICE).requires_grad_()
    with dispatch.backend(choice):
        loss = ldr_loss(x, y.to(DEVICE), lam=2.0, margin=0.3)
    loss.sum().backward()
    torch.testing.assert_close(loss.detach().cpu().double(), naive("ldr", z.detach().float().double(), y), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(x.grad.cpu().double(), z.grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("choice", ["reference", "triton"])
def test_ldr_of_large_outputs_is_the_small_difference_of_them(choice):
    logits = torch.randn(20, 7, generator=torch.Generator().manual_seed(0)) * 1000
    target = logits.argmax(-1)
    loss = partial(ldr_loss, target=target.to(DEVICE), lam=2.0, margin=0.5, normalise=False)
    with dispatch.backend("reference"):
        expected = loss(logits.double().to(DEVICE))
    with dispatch.backend(choice):
        torch.testing.assert_close(loss(logits.to(DEVICE)).double(), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 100.0])
def test_ldr_of_very_many_classes_keeps_its_digits(scale):
    """The loss is a small difference of a cross entropy and the logarithm of the number of classes."""
    logits = torch.randn(2, 65537, generator=torch.Generator().manual_seed(3)) * scale
    target = torch.tensor([0, 1])
    torch.testing.assert_close(ldr_loss(logits, target).double(), ldr_loss(logits.double(), target), rtol=1e-4, atol=1e-6)


def test_ldr_of_doubles_with_an_excluded_class_is_of_their_precision():
    z = torch.tensor([[0.3, -INF, 1.0, 0.2]], dtype=torch.float64)
    loss = ldr_loss(z, torch.tensor([0]), lam=100.0, margin=0.0)
    torch.testing.assert_close(loss, naive("ldr", z[:, [0, 2, 3]], torch.tensor([0]), lam=100.0, margin=0.0), rtol=1e-11, atol=1e-11)


def test_bi_tempered_is_a_divergence():
    """0 with no slope where the tempered softmax is the target, positive elsewhere; cross entropy less entropy at temperatures 1."""
    z, t = torch.randn(5, 4, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64).softmax(-1)
    at = ((t ** (1 - 1.2) - 1) / (1 - 1.2)).requires_grad_()  # log_t of the target
    loss, grad = bi_tempered_loss(at, t, iterations=60, gradient=True)
    assert loss.abs().max() < 1e-12
    assert grad.abs().max() < 1e-9
    assert (bi_tempered_loss(z, t) > 1e-3).all()
    torch.testing.assert_close(bi_tempered_loss(z, t, t1=1.0, t2=1.0), F.cross_entropy(z, t, reduction="none") + (t * t.log()).sum(-1))


@pytest.mark.parametrize("choice", ["reference", "triton"])
def test_bi_tempered_at_temperatures_one_has_a_slope_however_wrong_it_is(choice):
    z, y = torch.tensor([[0.0, 200.0], [3.0, -500.0]], device=DEVICE), torch.tensor([0, 1], device=DEVICE)
    with dispatch.backend(choice):
        for target in (y, F.one_hot(y, 2).float()):
            loss, grad = bi_tempered_loss(z, target, t1=1.0, t2=1.0, gradient=True)
            torch.testing.assert_close(loss.cpu(), torch.tensor([200.0, 503.0]))
            torch.testing.assert_close(grad.cpu(), torch.tensor([[-1.0, 1.0], [1.0, -1.0]]))
            at = z.clone().requires_grad_()
            bi_tempered_loss(at, target, t1=1.0, t2=1.0).sum().backward()
            torch.testing.assert_close(at.grad, grad)


@pytest.mark.parametrize("name", [name for name in LOSSES if "rce" not in name and not name.startswith(("ldr", "bi_"))])
def test_soft_targets_are_the_mean_over_their_labels(name):
    z, t = make("soft", 6, 5)
    each = torch.stack([LOSSES[name](z, torch.full((6,), c)) for c in range(5)], -1)
    torch.testing.assert_close(LOSSES[name](z, t), (t * each).sum(-1))


@every
def test_hard_targets_are_soft_ones_of_a_single_class(name):
    z, y = torch.randn(6, 5), torch.randint(5, (6,))
    torch.testing.assert_close(LOSSES[name](z, y), LOSSES[name](z, F.one_hot(y, 5).float()), rtol=1e-5, atol=1e-6)


@every
@both
def test_reference_gradients(name, kind):
    logits, target = make(kind, 3, 4, "cpu", torch.float64)
    logits = (logits / 3).requires_grad_()
    options = {"iterations": 40} if name.startswith("bi_") else {}
    target.requires_grad_(kind == "soft" and not name.startswith("bi_"))
    f = lambda x, *t: LOSSES[name](x, *(t or (target,)), **options)
    inputs = (logits, target) if target.requires_grad else (logits,)
    assert torch.autograd.gradcheck(f, inputs)
    assert torch.autograd.gradgradcheck(f, inputs)


@every
@both
def test_parity(name, kind):
    for cols in (1, 2, 3, 127):
        check(LOSSES[name], *make(kind, 5, cols))
    for dtype in (torch.bfloat16, torch.float16):
        check(LOSSES[name], *make(kind, 5, 33, dtype=dtype))


@both
@pytest.mark.parametrize(("name", "cols"), [("gce", 4096), ("nfl+rce", 1023), ("clipped_3.0", 1023), ("ldr", 1023), ("bi_tempered_0.8_1.2", 1023)])
def test_parity_of_longer_rows(name, kind, cols):
    check(LOSSES[name], *make(kind, 3, cols))


@every
@both
def test_parity_of_views_and_extremes(name, kind):
    x, t = torch.randn(4, 7, 3, device=DEVICE).transpose(1, 2), make(kind, 12, 7)[1]
    check(LOSSES[name], x, t.view(4, 3, *t.shape[1:]))
    check(LOSSES[name], x[:, ::2], t[:2])
    x = torch.randn(6, 40, device=DEVICE) * 1e4
    x[0], x[1] = 1e4, -30
    x[:, 5::5] = -INF
    x[2], x[3, 1:] = -INF, -INF
    t = torch.zeros(6, dtype=torch.long, device=DEVICE) if kind == "hard" else F.one_hot(torch.tensor([0, 1, 2, 0, 3, 4]), 40).to(x) * 0.5
    check(LOSSES[name], x, t, rtol=1e-4, atol=5e-3 if name == "ldr_plain" else 1e-4)


@both
def test_high_norms_of_large_entries_do_not_overflow(kind):
    logits, target = make(kind, 5, 7)
    check(partial(clipped_cross_entropy, p=24.0), 40 * logits, target)
    with dispatch.backend("reference"):
        single, double = (clipped_cross_entropy(x, target, p=24.0, gradient=True) for x in (40 * logits, 40 * logits.double()))
    for mine, expected in zip(single, double, strict=True):
        torch.testing.assert_close(mine.double(), expected.double(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("size", "p", "tau"), [(1e-3, 24.0, 1e-4), (1e30, 2.0, 1.0)])
def test_norms_beyond_what_powers_hold(size, p, tau):
    """Powers of the entries vanish, or overflow, in single precision; the clipped logits are those of double precision."""
    logits, target = size * torch.randn(5, 7, generator=torch.Generator().manual_seed(0)), torch.arange(5)
    z = logits.double()
    wanted = F.cross_entropy(z * (tau / (z.abs() / size).norm(p, -1, keepdim=True) / size).clamp_max(1), target, reduction="none")
    assert torch.allclose(clipped_cross_entropy(logits, target, tau=tau, p=p).double(), wanted, rtol=1e-6)


@both
@every
def test_wide_rows(name, kind, narrow):
    """Rows over a quarter of the widest go through the log-softmax, or stay with the reference."""
    logits, target = make(kind, 2, 150)
    logits[0, 100:] = -INF
    if kind == "hard":
        target[1] = 3
    f = LOSSES[name]
    expected, slope = f(logits.double(), target, gradient=True)
    dispatch.reset()
    with dispatch.backend("triton"):
        if name in WHOLE:
            with pytest.raises(RuntimeError, match="rows of more than 16 columns"):
                f(logits, target)
            return
        got, grad = f(logits, target, gradient=True)
    assert dispatch.used() == {("log_softmax", "triton", "split"): 1, ("log_softmax_backward", "triton", "split"): 1}
    torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(grad.double(), slope, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cols", [65537, 1_000_003])
def test_very_long_rows(cols):
    logits, target = torch.randn(1, cols, device=DEVICE, dtype=torch.float64), torch.tensor([7], device=DEVICE)
    for name in ("gce", "nce+mae", "clipped_2.0", "ldr"):
        torch.testing.assert_close(LOSSES[name](logits.float(), target).double(), naive(name, logits, target), rtol=1e-4, atol=1e-6)


@every
@pytest.mark.parametrize("backend", ["reference", "triton"])
def test_excluded_classes_are_as_if_absent(name, backend):
    x = torch.randn(4, 12, device=DEVICE)
    keep = torch.ones(12, dtype=torch.bool, device=DEVICE)
    keep[[3, 4, 9]] = False
    target = torch.tensor([0, 2, -100, 1], device=DEVICE)
    with dispatch.backend(backend):
        loss, grad = LOSSES[name](x.masked_fill(~keep, -INF), target, gradient=True)
        expected, slope = LOSSES[name](x[:, keep], target, gradient=True)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(grad[:, keep], slope, rtol=1e-4, atol=1e-6)
    assert not grad[:, ~keep].any()


@every
@pytest.mark.parametrize("backend", ["reference", "triton"])
def test_edges(name, backend):
    """No rows, rows of -inf alone, an excluded label, NaN, ignored samples, autocast."""
    f = LOSSES[name]
    with dispatch.backend(backend):
        assert f(torch.randn(0, 3, device=DEVICE), torch.empty(0, dtype=torch.long, device=DEVICE)).shape == (0,)
        x = torch.tensor([[-INF] * 3, [0.0, -INF, 0.5], [-INF] * 3, [1.0, 2.0, 3.0], [0.0, 1.0, 2.0]], device=DEVICE)
        loss, grad = f(x, torch.tensor([0, 1, 7, 7, 1], device=DEVICE), ignore_index=7, gradient=True)
        assert not loss[:2].isnan().any()
        assert not grad[:2].isnan().any()
        assert not grad[0].any()
        assert loss[2:4].tolist() == [0, 0]
        assert not grad[2:4].any()
        assert loss[4].isfinite()
        assert grad[4].any()
        x[4, 0] = math.nan
        assert f(x[3:], torch.tensor([0, 1], device=DEVICE)).isnan().tolist() == [False, True]
        y = torch.randn(2, 3, device=DEVICE, requires_grad=True)
        ignored = f(y, torch.tensor([-100, -100], device=DEVICE))
        (ignored.sum() / torch.zeros((), device=DEVICE)).backward()  # the mean over none
        assert ignored.tolist() == [0, 0]
        assert not y.grad.any()
        with torch.autocast(DEVICE, torch.bfloat16):
            assert f(y.bfloat16(), torch.tensor([0, 1], device=DEVICE)).dtype == torch.float32


def test_refusals():
    z, t = torch.randn(2, 3, device=DEVICE), torch.tensor([0, 1], device=DEVICE)
    for call, message in [
        (lambda: label_loss(z, t, "cee"), "cee"),
        (lambda: label_loss(z, t, "gce", q=0.0), r"q must be in \(0, 1\]"),
        (lambda: clipped_cross_entropy(z, t, tau=0.0), "tau must be positive"),
        (lambda: ldr_loss(z, t, lam=0.0), "lam must be positive"),
        (lambda: bi_tempered_loss(z, t, t2=0.5), "t2"),
        (lambda: label_loss(z, torch.rand(2, 4, device=DEVICE)), "over 4 classes"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
    with dispatch.backend("triton"):
        assert label_loss(z, torch.tensor([3, -1], device=DEVICE), "gce").isnan().all()
        with pytest.raises(RuntimeError, match="requires gradients"):
            label_loss(z, torch.rand(2, 3, device=DEVICE, requires_grad=True))


@every
@both
def test_second_derivative_of_the_kernel(name, kind):
    logits, target = make(kind, 5, 6)
    logits.requires_grad_()
    found = []
    for choice in ("reference", "triton"):
        with dispatch.backend(choice):
            (first,) = torch.autograd.grad(LOSSES[name](logits, target).square().sum(), logits, create_graph=True)
            found += [torch.autograd.grad(first.square().sum(), logits)[0]]
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-3)


@settings(max_examples=6, deadline=None, derandomize=True)
@given(st.lists(st.integers(-40, 40).map(lambda n: n / 8), min_size=2, max_size=12), st.data())
def test_properties(values, data):
    """Bounds, invariance to translation, gradients that sum to 0, and normalised losses that sum to 1 over the labels."""
    n = len(values)
    x, y = torch.tensor([values], device=DEVICE), torch.tensor([data.draw(st.integers(0, n - 1))], device=DEVICE)
    with dispatch.backend("triton"):
        for name in ("gce", "mae", "nce", "nfl", "bi_tempered_0.8_1.2"):
            loss, grad = LOSSES[name](x, y, gradient=True)
            moved, _ = LOSSES[name](x + 3, y, gradient=True)
            torch.testing.assert_close(moved, loss, rtol=1e-4, atol=1e-5)
            assert -1e-6 <= loss <= {"gce": 1 / 0.6, "bi_tempered_0.8_1.2": 5}.get(name, 1) + 1e-5
            assert abs(grad.sum()) < 1e-5
        for name in ("nce", "nfl"):
            assert LOSSES[name](x.expand(n, n), torch.arange(n, device=DEVICE)).sum() == pytest.approx(1, abs=1e-4)
        assert LOSSES["clipped_inf"](x, y) <= math.log(1 + (n - 1) * math.exp(3)) + 1e-4


def test_opcheck_compile_and_transforms():
    logits, target = make("hard", 4, 5)
    logits.requires_grad_()
    arguments = ("nce+mae", [1.0, 1.0, 0.5, 1e-4], -100)
    torch.library.opcheck(fused_label_loss, (logits, target, *arguments, False))
    torch.library.opcheck(label_loss_backward, (torch.ones(4, device=DEVICE), logits.detach(), target, *arguments))
    chosen = ("gce", "nfl+rce", "ce+maxsup", "clipped_2.0", "ldr", "bi_tempered_0.8_1.2")

    def f(x):
        return sum(LOSSES[name](x, target).sum() for name in chosen)

    (expected,) = torch.autograd.grad(f(logits), logits)
    for choice in ("reference", "triton"):
        with dispatch.backend(choice):
            dispatch.reset()
            (got,) = torch.autograd.grad(torch.compile(f, fullgraph=True, backend="aot_eager")(logits), logits)
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    assert dispatch.used() == {("label_loss", "triton", "rows"): 6, ("label_loss_backward", "triton", "rows"): 6}
    for name in LOSSES:
        each = torch.func.vmap(torch.func.grad(LOSSES[name]))(logits.detach(), target.clamp_min(0))
        torch.testing.assert_close(each, LOSSES[name](logits, target.clamp_min(0), gradient=True)[1], rtol=1e-4, atol=1e-5)


def test_every_kernel_compiles_for_hopper():
    triton = pytest.importorskip("triton")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    script = Path(__file__).with_name("hopper_label_losses.py")
    ran = subprocess.run([sys.executable, script, "label"], capture_output=True, text=True, env=environment)
    assert ran.returncode == 0, ran.stderr[-3000:]
    *compiled, number = map(json.loads, ran.stdout.splitlines())
    assert number == len(compiled) >= 12
    stack = 64 if tuple(map(int, triton.__version__.split(".")[:2])) >= (3, 7) else 144  # older ones spill a little
    for line in compiled:
        assert line["shared"] <= 227 * 1024, line
        assert line["stack"] <= stack, line
