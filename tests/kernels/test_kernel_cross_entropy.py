"""Cross entropy against torch.nn.functional, and its kernel against the reference."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.kernels import (
    bi_tempered_loss,
    clipped_cross_entropy,
    cross_entropy,
    cross_entropy_with_gradient,
    dispatch,
    entmax_loss,
    label_loss,
    ldr_loss,
    linear_cross_entropy,
    partial_fc,
    sampled_softmax,
    sparsemax_loss,
)
from runner.kernels.cross_entropy import cross_entropy_backward, fused_cross_entropy

TOLERANCE = {torch.float32: (1e-5, 1e-5), torch.float16: (2e-3, 1e-3), torch.bfloat16: (1.6e-2, 4e-3)}
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="a row this wide takes the interpreter minutes")


def make(kind, rows, cols, device, dtype=torch.float32):
    """Logits, and a target that is hard (some samples ignored) or soft."""
    logits = (torch.randn(rows, cols, device=device) * 3).to(dtype)
    if kind == "soft":
        return logits, torch.rand(rows, cols, device=device, dtype=dtype)
    target = torch.randint(cols, (rows,), device=device)
    target[::4] = -100
    return logits, target


def check(logits, target, path="rows", **options):
    """Loss and gradient of the kernel against the reference in float64; that the kernel ran."""
    rtol, atol = TOLERANCE[logits.dtype]
    double, single = logits.detach().double().requires_grad_(), logits.detach().requires_grad_()
    convert = {k: v.double() if isinstance(v, torch.Tensor) else v for k, v in options.items()}
    expected = cross_entropy(double, target.double() if target.is_floating_point() else target, **convert)
    dispatch.reset()
    with dispatch.backend("triton"):
        got = cross_entropy(single, target, **options)
        grad = torch.randn_like(got)
        got.backward(grad)
        assert dispatch.used() == {("cross_entropy", "triton", path): 1, ("cross_entropy_backward", "triton", "rows"): 1}
        at_once = None if "reduction" in options else cross_entropy_with_gradient(single.detach(), target, **options)
    expected.backward(grad.double())
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-5 * max(1, target.shape[-1] / 100))
    torch.testing.assert_close(single.grad.double(), double.grad, rtol=rtol, atol=atol)
    if at_once:
        torch.testing.assert_close(at_once[0], got)
        (expected,) = torch.autograd.grad(cross_entropy(double, target, **convert).sum(), double)
        torch.testing.assert_close(at_once[1].double(), expected, rtol=rtol, atol=atol)


@pytest.mark.parametrize("kind", ["hard", "soft"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_reference_against_torch(kind, smoothing, weighted, reduction):
    logits, target = make(kind, 9, 5, "cpu", torch.float64)
    logits.requires_grad_()
    options = {"weight": torch.rand(5, dtype=torch.float64) if weighted else None, "label_smoothing": smoothing, "reduction": reduction}
    ours, theirs = cross_entropy(logits, target, **options), F.cross_entropy(logits, target, **options)
    torch.testing.assert_close(ours, theirs)
    ours, theirs = (torch.autograd.grad(loss.sum(), logits)[0] for loss in (ours, theirs))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_reference_gradients(kind):
    logits, target = make(kind, 5, 4, "cpu", torch.float64)
    logits.requires_grad_()
    target.requires_grad_(kind == "soft")
    weight = torch.rand(4, dtype=torch.float64, requires_grad=True)
    f = lambda x, w, *t: cross_entropy(x, *(t or (target,)), weight=w, label_smoothing=0.1)
    inputs = (logits, weight, target) if kind == "soft" else (logits, weight)
    assert torch.autograd.gradcheck(f, inputs)
    assert torch.autograd.gradgradcheck(f, inputs)


@pytest.mark.parametrize("kind", ["hard", "soft"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("cols", [1, 2, 3, 127, 1023, *(pytest.param(n, marks=needs_gpu) for n in (65537, 1_000_003))])
def test_parity(kind, dtype, cols, device):
    check(*make(kind, 5, cols, device, dtype), path="rows" if cols < 65537 else "split")


@pytest.mark.parametrize("kind", ["hard", "soft"])
@pytest.mark.parametrize("rows", [2, 9])
def test_parity_of_wide_rows(kind, rows, narrow, device):
    for level in (0, -100):  # far below 0, a row must not meet the 0 that stands for rows of -inf
        logits, target = make(kind, rows, 150, device)
        logits += level
        logits[0, ::3] = -torch.inf
        target[0] = 1
        check(logits, target, path="split" if rows == 2 else "loop", weight=torch.rand(150, device=device))
        check(logits, target, path="split" if rows == 2 else "loop", label_smoothing=0.1 if kind == "hard" and level == 0 else 0.0)


@pytest.mark.parametrize("kind", ["hard", "soft"])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_parity_of_options(kind, smoothing, weighted, reduction, device):
    weight = torch.rand(17, device=device) if weighted else None
    check(*make(kind, 6, 17, device), weight=weight, label_smoothing=smoothing, reduction=reduction)


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_leading_dimensions_broadcast(kind, device):
    logits = torch.randn(3, 2, 4, 7, device=device)
    target = torch.randint(7, (2, 1), device=device) if kind == "hard" else torch.rand(2, 1, 7, device=device)
    check(logits, target)
    check(logits[0].transpose(0, 1), target.squeeze(1))
    assert cross_entropy(logits[0, 0, 0], target[0, 0]).shape == ()
    with pytest.raises(ValueError, match="soft targets over 3 classes"):
        cross_entropy(logits, torch.rand(3, device=device))


@pytest.mark.parametrize("backend", ["reference", "triton"])
def test_edges(backend, device):
    """-inf classes, a row of -inf alone, extreme logits, no rows, every sample ignored."""
    x = torch.tensor([[0.0, 0.0, -torch.inf], [0.0, -torch.inf, 0.0], [-torch.inf] * 3, [1e4, -1e4, 0.0]], device=device, requires_grad=True)
    with dispatch.backend(backend):
        loss = cross_entropy(x, torch.tensor([0, 1, 2, 1], device=device))
        loss[[0, 3]].sum().backward()
        torch.testing.assert_close(loss.tolist(), [0.6931471805, float("inf"), float("inf"), 2e4])
        torch.testing.assert_close(x.grad[[0, 3]].tolist(), [[-0.5, 0.5, 0.0], [1.0, -1.0, 0.0]])
        assert not x.grad[[1, 2]].any()
        assert cross_entropy(torch.randn(0, 3, device=device), torch.empty(0, dtype=torch.long, device=device)).shape == (0,)
        soft = cross_entropy(x[0], torch.tensor([1.0, 0.0, 0.0], device=device))
        assert soft == loss[0]
        y = torch.randn(2, 3, device=device, requires_grad=True)
        ignored = cross_entropy(y, torch.tensor([7, 7], device=device), ignore_index=7)
        ignored.sum().backward()
        assert ignored.tolist() == [0, 0]
        assert not y.grad.any()
        empty = torch.full((2, 3), -torch.inf, device=device, requires_grad=True)
        cross_entropy(empty, torch.tensor([7, 7], device=device), ignore_index=7).sum().backward()
        assert not empty.grad.any()
        with pytest.raises(ValueError, match="none, sum or mean"):
            cross_entropy(y, torch.zeros(2, dtype=torch.long), reduction="avg")


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_ignored_samples_of_nan_have_no_gradient_in_the_kernel(smoothing, narrow, device):
    for cols in (5, 150):
        x = torch.full((2, cols), torch.nan, device=device, requires_grad=True)
        with dispatch.backend("triton"):
            cross_entropy(x, torch.full((2,), -100, device=device), label_smoothing=smoothing).sum().backward()
        assert not x.grad.any()


def test_a_class_out_of_range_gives_nan(device):
    with dispatch.backend("triton"):
        assert cross_entropy(torch.randn(2, 3, device=device), torch.tensor([3, -1], device=device)).isnan().all()


@pytest.mark.parametrize("backend", ["reference", "triton"])
@pytest.mark.parametrize("cols", [5, 150])
def test_ignored_samples_count_for_nothing(cols, backend, narrow, device):
    """Whatever their logits; and the mean over none but them is 0 / 0 without a slope, as torch's."""
    x = torch.randn(2, cols, device=device, requires_grad=True)
    odd = x.detach().clone()
    odd[0, :2] = torch.tensor([torch.nan, torch.inf], device=device)
    with dispatch.backend(backend):
        assert cross_entropy(odd, torch.tensor([-100, 1], device=device)).isfinite().all()
        loss = cross_entropy(x, torch.full((2,), -100, device=device), reduction="mean")
        loss.backward()
    assert loss.isnan()
    assert not x.grad.any()


@pytest.mark.parametrize("backend", ["reference", "triton"])
def test_weights_of_other_classes_and_smoothing_beyond_one_are_refused(backend, device):
    logits, target = make("hard", 4, 5, device)
    with dispatch.backend(backend):
        for f in (cross_entropy, cross_entropy_with_gradient):
            for shape in ((3,), (1,), (4, 5)):
                with pytest.raises(ValueError, match="for 5 classes"):
                    f(logits, target, weight=torch.ones(shape, device=device))
            for smoothing in (-0.1, 1.1):
                with pytest.raises(ValueError, match=r"\[0, 1\]"):
                    f(logits[None], target[None], label_smoothing=smoothing)


@pytest.mark.parametrize("backend", ["reference", "triton"])
def test_the_loss_with_its_gradient_is_not_differentiable(backend, device):
    """Not in learnt weights either, for which the kernel has no gradient."""
    logits, target = make("hard", 4, 5, device)
    with dispatch.backend(backend):
        loss, grad = cross_entropy_with_gradient(logits.requires_grad_(), target, weight=torch.rand(5, device=device, requires_grad=True))
    assert not loss.requires_grad
    assert not grad.requires_grad


def test_learnt_targets_are_refused_by_the_kernel(device):
    target = torch.rand(2, 3, device=device, requires_grad=True)
    with dispatch.backend("triton"), pytest.raises(RuntimeError, match="requires gradients"):
        cross_entropy(torch.randn(2, 3, device=device), target)


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_second_derivative_of_the_kernel(kind, device):
    logits, target = make(kind, 5, 6, device)
    logits.requires_grad_()
    found = []
    for choice in ("reference", "triton"):
        with dispatch.backend(choice):
            loss = cross_entropy(logits, target, label_smoothing=0.1)
            (first,) = torch.autograd.grad(loss.square().sum(), logits, create_graph=True)
            found += [torch.autograd.grad(first.square().sum(), logits)[0]]
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.lists(st.integers(-40, 40).map(lambda n: n / 8), min_size=1, max_size=30), st.data())
def test_properties(values, data):
    """Invariance to translation; at least the entropy of the target; the gradient sums to zero."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    x = torch.tensor([values], device=device)
    q = torch.tensor([data.draw(st.lists(st.integers(1, 9), min_size=len(values), max_size=len(values)))], device=device)
    q = q / q.sum()
    with dispatch.backend("triton"):
        loss, grad = cross_entropy_with_gradient(x, q)
        moved, _ = cross_entropy_with_gradient(x + 7, q)
    torch.testing.assert_close(moved, loss, rtol=1e-5, atol=1e-5)
    assert loss >= -(q * q.log()).sum() - 1e-5
    assert abs(grad.sum()) < 1e-5


def test_opcheck_and_compile(device):
    logits, target = make("hard", 4, 5, device)
    logits.requires_grad_()
    torch.library.opcheck(fused_cross_entropy, (logits, target, None, 0.1, -100, False))
    one = torch.ones(4, device=device)
    torch.library.opcheck(cross_entropy_backward, (one, logits.detach(), target, None, one, one, 0.1, -100))

    def f(x):
        return cross_entropy(x, target, label_smoothing=0.1, reduction="mean")

    (expected,) = torch.autograd.grad(f(logits), logits)
    with dispatch.backend("triton"):
        dispatch.reset()
        (got,) = torch.autograd.grad(torch.compile(f, fullgraph=True, backend="aot_eager")(logits), logits)
    assert dispatch.used() == {("cross_entropy", "triton", "rows"): 1, ("cross_entropy_backward", "triton", "rows"): 1}
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8])
@pytest.mark.parametrize("choice", ["reference", "triton"])
def test_class_indices_of_every_integer_type(dtype, choice, device):
    """uint8 is no mask."""
    x, weight, y = torch.randn(5, 7, device=device), torch.randn(6, 7, device=device), torch.tensor([3, 0, 5, 1, 1], device=device)
    losses = {
        "cross_entropy": cross_entropy,
        "mean": partial(cross_entropy, reduction="mean", weight=torch.rand(7, device=device)),
        "label_loss": partial(label_loss, active="gce"),
        "ldr": ldr_loss,
        "bi_tempered": bi_tempered_loss,
        "clipped": clipped_cross_entropy,
        "sparsemax": sparsemax_loss,
        "linear": lambda x, y: linear_cross_entropy(x, weight, y, ignore_index=1),
        "sampled": lambda x, y: sampled_softmax(x, weight, y, y[:3], torch.ones(3, device=device), ignore_index=1),
        "partial_fc": lambda x, y: partial_fc(x, weight, y, ignore_index=1),
    }
    with dispatch.backend(choice):
        for name, loss in losses.items():
            torch.testing.assert_close(loss(x, y.to(dtype)), loss(x, y), rtol=0, atol=0, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("choice", ["reference", "triton"])
def test_soft_targets_of_every_type_leave_the_loss_in_float32(choice, device):
    """Double probabilities, as numpy makes them, are no reason for a loss in float64."""
    x, weight = torch.randn(5, 7, device=device), torch.randn(7, 7, device=device)
    losses = {
        "cross_entropy": cross_entropy,
        "weighted": lambda x, t: cross_entropy(x, t, weight=t[0]),
        "mae": partial(label_loss, active="mae"),
        "nce+rce": partial(label_loss, active="nce", passive="rce"),
        "ldr": ldr_loss,
        "bi_tempered": bi_tempered_loss,
        "untempered": partial(bi_tempered_loss, t1=1.0, t2=1.0),
        "clipped": clipped_cross_entropy,
        "sparsemax": sparsemax_loss,
        "entmax 1": partial(entmax_loss, alpha=1.0),
        "linear": lambda x, t: linear_cross_entropy(x, weight, t),
    }
    target = torch.randn(5, 7, device=device).softmax(-1)
    with dispatch.backend(choice):
        for name, loss in losses.items():
            torch.testing.assert_close(loss(x, target.double()), loss(x, target), msg=lambda text, name=name: f"{name}: {text}")


def test_targets_and_weights_are_mapped_over_alone(device):
    """vmap over labels for the same logits, as for the loss of every class."""
    x, w, targets = torch.randn(5, 7, device=device), torch.randn(7, 7, device=device), torch.randint(7, (3, 5), device=device)
    losses = {
        "cross_entropy": cross_entropy,
        "gce": partial(label_loss, active="gce"),
        "nce+maxsup": partial(label_loss, active="nce", passive="maxsup"),
        "ldr": ldr_loss,
        "bi_tempered": bi_tempered_loss,
        "clipped": clipped_cross_entropy,
        "entmax": entmax_loss,
        "linear": lambda x, y: linear_cross_entropy(x, w, y),
        "partial_fc": lambda x, y: partial_fc(x, w, y),
    }
    with dispatch.backend("reference"):
        for name, loss in losses.items():
            got = torch.func.vmap(loss, in_dims=(None, 0))(x, targets)
            expected = torch.stack([loss(x, y) for y in targets])
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")
        weights = torch.rand(2, 7, device=device)
        got = torch.func.vmap(lambda v: cross_entropy(x, targets[0], weight=v))(weights)
        torch.testing.assert_close(got, torch.stack([cross_entropy(x, targets[0], weight=v) for v in weights]))


def test_targets_whose_classes_lie_far_apart(device):
    """Offsets beyond 32 bits, as in transposed targets of 2^31 entries; of this one three are touched."""
    target = torch.empty(2**31 + 1, dtype=torch.float16, device=device).as_strided((1, 3), (1, 2**30))
    target.copy_(torch.tensor([[0.25, 0.25, 0.5]], device=device))
    x = torch.randn(1, 3, device=device)
    for loss in (cross_entropy, partial(label_loss, active="gce"), entmax_loss):
        with dispatch.backend("triton"):
            got = loss(x, target)
        with dispatch.backend("reference"):
            torch.testing.assert_close(got, loss(x, target.contiguous()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_losses_give_their_gradients_in_inference_mode(kind, device):
    """For tensors from inside and from outside of it."""
    logits, target = make(kind, 4, 5, device)
    losses = (cross_entropy_with_gradient, partial(label_loss, active="gce", gradient=True), partial(entmax_loss, gradient=True))
    with dispatch.backend("reference"):
        for f in losses:
            expected = f(logits, target)
            with torch.inference_mode():
                for x, t in [(logits, target), (logits.clone(), target), (logits.clone(), target.clone())]:
                    torch.testing.assert_close(f(x, t), expected)


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_losses_with_their_gradients_compile_and_map(kind, device):
    """The reference's too, which asks autograd for them."""
    logits, target = make(kind, 4, 5, device)
    losses = {
        "cross_entropy": cross_entropy_with_gradient,
        "gce": partial(label_loss, active="gce", gradient=True),
        "ldr": partial(ldr_loss, gradient=True),
        "entmax": partial(entmax_loss, gradient=True),
        "sparsemax": partial(sparsemax_loss, gradient=True),
        "bi_tempered": partial(bi_tempered_loss, gradient=True),
    }
    for name, f in losses.items():
        expected = f(logits, target)
        for choice in ("reference", "triton"):
            torch.compiler.reset()
            with dispatch.backend(choice):
                got = torch.compile(f, fullgraph=True, backend="aot_eager")(logits, target)
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")
        with dispatch.backend("reference"):
            torch.testing.assert_close(torch.func.vmap(f)(logits, target), expected, rtol=1e-4, atol=1e-5)
