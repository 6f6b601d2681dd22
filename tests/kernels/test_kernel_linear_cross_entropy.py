"""The linear layer with cross entropy: against the composition in float64, what it holds in memory, and its kernel."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from runner.kernels import dispatch, linear_cross_entropy, linear_logsumexp
from runner.kernels import linear_cross_entropy_triton as triton_module
from runner.kernels.linear_cross_entropy import fused_linear_cross_entropy, linear_cross_entropy_backward

# the module, which the function of its name hides
module = sys.modules["runner.kernels.linear_cross_entropy"]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TOLERANCE = {torch.float32: (1e-4, 2e-5), torch.float16: (4e-3, 4e-3), torch.bfloat16: (3e-2, 3e-2)}
kinds = pytest.mark.parametrize("kind", ["hard", "soft"])


@pytest.fixture(params=["reference", "pieces", "triton"])
def backend(request, monkeypatch):
    """The reference as a whole and in pieces, and the kernel."""
    if request.param == "pieces":
        monkeypatch.setattr(module, "_piece", lambda hidden, weight: 3)
    with dispatch.backend("triton" if request.param == "triton" else "reference"):
        yield request.param


def make(kind, n, d, classes, dtype=torch.float32, device=DEVICE):
    """Hidden, weight, bias, and a target that is hard (some samples ignored) or soft."""
    hidden, weight = (torch.randn(shape, device=device) * d**-0.25 for shape in [(n, d), (classes, d)])
    target = torch.rand(n, classes, device=device) if kind == "soft" else torch.randint(classes, (n,), device=device)
    if kind == "hard":
        target[1::4] = -100
    inputs = [x.to(dtype).requires_grad_() for x in (hidden, weight, torch.randn(classes, device=device))]
    return inputs, target.to(dtype) if kind == "soft" else target


def composition(hidden, weight, target, bias=None, smoothing=0.0, reduction="none"):
    return F.cross_entropy(F.linear(hidden, weight, bias), target, label_smoothing=smoothing, reduction=reduction)


def check(inputs, target, smoothing=0.0, reduction="none", biased=True, **options):
    """Loss and gradients against those of the composition in float64."""
    rtol, atol = TOLERANCE[inputs[0].dtype]
    inputs = inputs[: 2 + biased]
    double = [x.detach().double().requires_grad_() for x in inputs]
    same = {"smoothing": smoothing, "reduction": reduction}
    expected = composition(*double[:2], target.double() if target.is_floating_point() else target, *double[2:], **same)
    got = linear_cross_entropy(*inputs[:2], target, *inputs[2:], **same, **options)
    assert got.dtype == torch.float32
    grad = torch.randn_like(got)
    got.backward(grad)
    expected.backward(grad.double())
    torch.testing.assert_close(got.double(), expected, rtol=rtol, atol=atol * max(1, expected.detach().abs().max().item()))
    for x, reference in zip(inputs, double, strict=True):
        assert x.grad.dtype == x.dtype
        torch.testing.assert_close(x.grad.double(), reference.grad, rtol=rtol, atol=atol * max(1, reference.grad.abs().max().item()))


@kinds
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("biased", [True, False])
def test_against_torch(kind, smoothing, reduction, biased, backend):
    check(*make(kind, 9, 6, 11), smoothing, reduction, biased)


@kinds
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("n", "d", "classes"), [(1, 1, 1), (5, 2, 3), (130, 70, 2), (3, 65, 300), (150, 40, 127)])
def test_parity(kind, dtype, n, d, classes, monkeypatch):
    """Sizes that are no multiples of a tile, spans of several tiles, strips that do not divide the classes."""
    monkeypatch.setattr(triton_module, "STRIP", 128)
    monkeypatch.setattr(triton_module, "PROGRAMS", 2)
    inputs, target = make(kind, n, d, classes, dtype)
    with dispatch.backend("triton"):
        check(inputs, target, 0.1, skip=n == 150)
    assert dispatch.used() == {(f"linear_cross_entropy{end}", "triton", "tiles"): 1 for end in ("", "_backward")}


@kinds
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(kind, dtype, backend):
    for reduction in ("none", "mean"):
        check(*make(kind, 9, 6, 11, dtype), 0.1, reduction)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_half_precision_under_a_loss_scale(reduction, backend):
    """The gradients are rounded after the scale, which is more than float16 holds."""
    inputs, target = make("hard", 9, 6, 11, torch.float16)
    inputs = [(x.detach() / 64).requires_grad_() for x in inputs[:2]]
    double = [x.detach().double().requires_grad_() for x in inputs]
    for f, leaves in ((linear_cross_entropy, inputs), (composition, double)):
        (f(*leaves, target, reduction=reduction).sum() * 65536).backward()
    for x, reference in zip(inputs, double, strict=True):
        torch.testing.assert_close(x.grad.double(), reference.grad, rtol=4e-3, atol=4e-3 * reference.grad.abs().max().item())


@kinds
def test_views_and_leading_dimensions(kind, backend):
    """Transposed and strided inputs; hidden of more than two dimensions."""
    (hidden, weight, _), target = make(kind, 12, 10, 7)
    expected = composition(hidden, weight, target).view(3, 4)
    shaped = target.view(3, 4, *target.shape[1:])
    wide = torch.stack([weight, weight], -1)[..., 0]
    for h, w in [(hidden.view(3, 4, 10), weight), (hidden.T.contiguous().T.view(3, 4, 10), wide.T.contiguous().T)]:
        got = linear_cross_entropy(h, w, shaped)
        torch.testing.assert_close(got, expected)
        grads = (torch.autograd.grad(y.square().sum(), (hidden, weight), retain_graph=True) for y in (got, expected))
        for a, b in zip(*grads, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_only_what_learns_gets_a_gradient(backend):
    (hidden, weight, bias), target = make("hard", 9, 4, 5)
    expected = torch.autograd.grad(composition(hidden, weight, target, bias, reduction="mean"), (hidden, weight, bias))
    for learns in range(3):
        inputs = [x.detach().requires_grad_(i == learns) for i, x in enumerate((hidden, weight, bias))]
        linear_cross_entropy(*inputs[:2], target, inputs[2], reduction="mean").backward()
        assert [x.grad is not None for x in inputs] == [i == learns for i in range(3)]
        torch.testing.assert_close(inputs[learns].grad, expected[learns], rtol=1e-4, atol=1e-6)


def test_edges(backend):
    """No rows, every sample ignored, extreme logits, classes excluded by a bias of -inf, and what is refused."""
    weight = torch.tensor([[1e4], [-1e4], [0.0]], device=DEVICE, requires_grad=True)
    for n in (0, 8):
        hidden = torch.ones(n, 1, device=DEVICE, requires_grad=True)
        loss = linear_cross_entropy(hidden, weight, torch.full((n,), 7, device=DEVICE), ignore_index=7)
        assert loss.tolist() == [0] * n
        weight.grad = None
        loss.sum().backward()
        assert not weight.grad.any()
        assert not hidden.grad.any()
    hidden = torch.ones(4, 1, device=DEVICE, requires_grad=True)
    loss = linear_cross_entropy(hidden, weight, torch.tensor([0, 1, 2, 2], device=DEVICE))
    assert loss.tolist() == [0, 2e4, 1e4, 1e4]
    (grad,) = torch.autograd.grad(loss.sum(), hidden)
    assert grad[:, 0].tolist() == [0, 2e4, 1e4, 1e4]
    bias = torch.tensor([0.0, -torch.inf, 0.0], device=DEVICE, requires_grad=True)
    hidden = torch.zeros(4, 1, device=DEVICE, requires_grad=True)
    loss = linear_cross_entropy(hidden, weight, torch.tensor([0, 1, 2, 2], device=DEVICE), bias)
    torch.testing.assert_close(loss.tolist(), [0.6931471805, float("inf"), 0.6931471805, 0.6931471805])
    grads = torch.autograd.grad(loss.sum(), (hidden, bias))
    torch.testing.assert_close([g.tolist() for g in grads], [[[-5e3], [0.0], [5e3], [5e3]], [0.5, 0.0, -0.5]])
    for target, error in [(torch.zeros(3, dtype=torch.long), "shape"), (torch.zeros(4, 2), "shape"), (torch.rand(4, 3, requires_grad=True), "no gradient")]:
        with pytest.raises(ValueError, match=error):
            linear_cross_entropy(hidden, weight, target.to(DEVICE))
    with pytest.raises(ValueError, match="none, sum or mean"):
        linear_cross_entropy(hidden, weight, torch.zeros(4, dtype=torch.long), reduction="avg")
    with pytest.raises(TypeError, match="float16"):
        linear_cross_entropy(hidden, weight.half(), torch.zeros(4, dtype=torch.long))


def test_shapes_that_do_not_fit_are_refused(backend):
    (hidden, weight, bias), target = make("hard", 6, 4, 5)
    for call in (
        lambda: linear_cross_entropy(hidden[:, :3], weight, target),
        lambda: linear_cross_entropy(hidden, weight[0], target),
        lambda: linear_cross_entropy(hidden, weight, target, bias[:1]),
        lambda: linear_cross_entropy(hidden, weight, target, smoothing=1.5),
        lambda: linear_logsumexp(hidden, weight, bias[:4]),
        lambda: linear_logsumexp(hidden, weight, exclude=target[:2]),
        lambda: linear_logsumexp(hidden, weight, exclude=target, ids=target[:2]),
    ):
        with pytest.raises(ValueError, match=r"hidden|smoothing"):
            call()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_mean_over_ignored_samples_alone_has_no_slope(smoothing, backend):
    """As torch's: the loss is 0 / 0, but nothing learns from it."""
    (hidden, weight, bias), target = make("hard", 8, 4, 5)
    loss = linear_cross_entropy(hidden, weight, torch.full_like(target, -100), bias, smoothing, reduction="mean")
    loss.backward()
    assert loss.isnan()
    assert not any(x.grad.any() for x in (hidden, weight, bias))


def test_soft_targets_have_no_ignored_class(backend):
    (hidden, weight, bias), target = make("soft", 8, 4, 5)
    loss = linear_cross_entropy(hidden, weight, target, bias, ignore_index=0)
    torch.testing.assert_close(loss, composition(hidden, weight, target, bias))


def test_nan_is_not_hidden(backend):
    (hidden, weight, _), _ = make("hard", 8, 4, 5)
    with torch.no_grad():
        hidden[2, 1] = torch.nan
    loss = linear_cross_entropy(hidden, weight, torch.zeros(8, dtype=torch.long, device=DEVICE))
    assert loss.isnan().tolist() == [i == 2 for i in range(8)]
    loss.sum().backward()
    assert hidden.grad.isfinite().all(1).tolist() == [i != 2 for i in range(8)]


def test_a_class_out_of_range_gives_nan():
    (hidden, weight, _), _ = make("hard", 2, 4, 5)
    with dispatch.backend("triton"):
        assert linear_cross_entropy(hidden, weight, torch.tensor([5, -1], device=DEVICE)).isnan().all()


def test_autocast(backend):
    """As the layer would: the inputs in autocast's dtype, the loss in float32, gradients in the dtypes of the inputs."""
    (hidden, weight, bias), target = make("hard", 9, 6, 5)
    with torch.autocast(DEVICE, torch.bfloat16):
        loss = linear_cross_entropy(hidden.bfloat16(), weight, target, bias, reduction="mean")
    loss.backward()
    assert loss.dtype == weight.grad.dtype == torch.float32
    expected = composition(*(x.bfloat16().float() for x in (hidden, weight)), target, bias.bfloat16().float(), reduction="mean")
    torch.testing.assert_close(loss, expected)


# log-sum-exp


def test_logsumexp(backend):
    (hidden, weight, bias), _ = make("hard", 7, 4, 9)
    ids = torch.tensor([5, 1, 5, 2, 0, 0, 8, 3, 4], device=DEVICE)
    exclude = torch.tensor([5, 1, 7, 0, 3, -1, 0], device=DEVICE)
    for options in ({}, {"exclude": exclude}, {"exclude": exclude, "ids": ids}):
        z = hidden @ weight.T + bias
        if options:
            z = z.masked_fill(exclude[:, None] == options.get("ids", torch.arange(9, device=DEVICE)), -torch.inf)
        got, expected = linear_logsumexp(hidden, weight, bias, **options), z.logsumexp(-1)
        torch.testing.assert_close(got, expected)
        w = torch.randn(7, device=DEVICE)
        for a, b in zip(*(torch.autograd.grad((y * w).sum(), (hidden, weight, bias)) for y in (got, expected)), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    lone = linear_logsumexp(hidden, weight[:1], exclude=torch.zeros(7, dtype=torch.long, device=DEVICE))
    assert lone.tolist() == [-torch.inf] * 7
    lone.clamp_min(0).sum().backward()
    assert not hidden.grad.any()
    hidden.grad = weight.grad = None
    out = linear_logsumexp(hidden, weight[:2], torch.tensor([-torch.inf, 0.0], device=DEVICE), exclude=torch.ones_like(exclude))
    assert out.tolist() == [-torch.inf] * 7
    out.clamp_min(0).sum().backward()
    assert not hidden.grad.any()
    assert not weight.grad.any()
    none = linear_logsumexp(hidden, weight[:0])
    assert none.tolist() == [-torch.inf] * 7
    hidden.grad = None
    none.clamp_min(0).sum().backward()
    assert not hidden.grad.any()


# derivatives of the reference, and what it holds


@kinds
@pytest.mark.parametrize("step", [2, 100])
def test_reference_gradients(kind, step, monkeypatch):
    """In pieces and as a whole, first and second."""
    monkeypatch.setattr(module, "_piece", lambda hidden, weight: step)
    inputs, target = make(kind, 5, 3, 4, torch.float64, "cpu")
    for reduction in ("none", "mean"):
        f = lambda h, w, b, reduction=reduction: linear_cross_entropy(h, w, target, b, 0.1, reduction=reduction)
        assert torch.autograd.gradcheck(f, inputs)
        assert torch.autograd.gradgradcheck(f, inputs)
    assert torch.autograd.gradcheck(lambda h, w, b: linear_logsumexp(h, w, b, exclude=torch.tensor([0, 1, 2, 3, 9])), inputs)


def test_second_derivative_of_the_kernel():
    (hidden, weight, bias), target = make("hard", 6, 3, 4)
    found = []
    for choice in ("reference", "triton"):
        with dispatch.backend(choice):
            loss = linear_cross_entropy(hidden, weight, target, bias, reduction="mean")
            (first,) = torch.autograd.grad(loss.square(), hidden, create_graph=True)
            found += [torch.autograd.grad(first.square().sum(), (hidden, weight, bias))]
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that an operation made."""

    seen = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        self.seen = max([self.seen, *(x.numel() for x in tree_leaves(out) if isinstance(x, torch.Tensor))])
        return out


@pytest.mark.parametrize("choice", ["reference", "triton"])
@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_the_logits_are_never_held(choice, reduction, monkeypatch):
    """Nothing is larger than what a few strips or the inputs take; the composition makes all 300 x 400 logits."""
    monkeypatch.setattr(module, "FEW", 4000)
    monkeypatch.setattr(triton_module, "STRIP", 64)
    inputs, target = make("hard", 300, 16, 400)
    with dispatch.backend(choice), Largest() as largest:
        linear_cross_entropy(*inputs[:2], target, inputs[2], reduction=reduction).sum().backward()
    assert largest.seen <= (6400 if choice == "reference" else 300 * 64)
    with Largest() as largest:
        composition(*inputs[:2], target, inputs[2]).sum().backward()
    assert largest.seen == 300 * 400


# the kernel


def test_skipped_tiles(monkeypatch):
    """Rows that are certain of their class: only tiles with a class or an uncertain row are used, and gradients hardly change."""
    monkeypatch.setitem(triton_module.TILES, torch.float32, (16, 16, 16, 4))
    target = torch.arange(64, device=DEVICE)
    weight = torch.eye(64, device=DEVICE, requires_grad=True)
    hidden = torch.diag(torch.where(target < 10, 10.0, 25.0)).requires_grad_()
    with dispatch.backend("triton"):
        exact, skipped = (torch.autograd.grad(linear_cross_entropy(hidden, weight, target, skip=skip).sum(), (hidden, weight)) for skip in (False, True))
    for a, b in zip(exact, skipped, strict=True):
        assert 0 < (a - b).abs().max() <= 25 * 64 * torch.finfo(torch.float32).eps / 32
    used = (skipped[0].view(4, 16, 4, 16) != 0).any(3).any(1)
    assert used.tolist() == [[True] * 4] + [[False] * 4] * 3  # a certain row's own slope is below the threshold too


@settings(max_examples=8, deadline=None, derandomize=True)
@given(st.integers(1, 140), st.integers(1, 20), st.integers(1, 140))
def test_properties(n, d, classes):
    """Any sizes: the loss of the kernel is that of the composition; its gradient in a bias sums to zero."""
    torch.manual_seed(n)
    (hidden, weight, bias), target = make("hard", n, d, classes)
    with dispatch.backend("triton"):
        loss = linear_cross_entropy(hidden, weight, target, bias)
    torch.testing.assert_close(loss, composition(hidden, weight, target, bias), rtol=1e-4, atol=1e-5)
    (grad,) = torch.autograd.grad(loss.sum(), bias)
    assert abs(grad.sum()) < 1e-3


def test_opcheck():
    (hidden, weight, bias), target = make("hard", 4, 3, 5)
    torch.library.opcheck(fused_linear_cross_entropy, (hidden, weight, bias, target, None, None, 0.1, -100, False))
    h, w, one = hidden.detach(), weight.detach(), torch.ones(4, device=DEVICE)
    torch.library.opcheck(linear_cross_entropy_backward, (one, h, w, None, target, None, None, one, one, 0.1, -100, True, [True, True, False]))


def test_compiles_without_a_graph_break(backend):
    (hidden, weight, bias), target = make("hard", 8, 3, 5)

    def f(hidden, weight):
        each, mean = (linear_cross_entropy(hidden, weight, target, b, reduction=r) for b, r in ((None, "none"), (bias.detach(), "mean")))
        return each.square().sum() + mean + linear_logsumexp(hidden, weight).sum()

    expected = torch.autograd.grad(f(hidden, weight), (hidden, weight))
    dispatch.reset()
    got = torch.autograd.grad(torch.compile(f, fullgraph=True, backend="aot_eager")(hidden, weight), (hidden, weight))
    assert (dispatch.used() != {}) == (backend == "triton")
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_every_kernel_compiles_for_hopper():
    pytest.importorskip("triton")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    script = Path(__file__).with_name("hopper_linear_cross_entropy.py")
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment)
    assert ran.returncode == 0, ran.stderr[-3000:]
    *compiled, number = map(json.loads, ran.stdout.splitlines())
    assert number == len(compiled) >= 9
    for line in compiled:
        assert line["shared"] <= 227 * 1024, line
        assert line["stack"] <= 64, line
