"""Masked optimizer steps against torch.optim followed by the mask."""

import pytest
import torch

from runner.kernels import dispatch, masked_adamw_, masked_sgd_, masked_step_triton
from runner.kernels.masked_step import fused_adamw_, fused_sgd_

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def ours(kind, param, grads, mask, options):
    """The parameters and states after one step for each gradient."""
    states = [torch.zeros_like(param) for _ in range(1 if kind == "sgd" else 2)]
    for i, grad in enumerate(grads):
        extra = {} if kind == "sgd" else {"step": i + 1}
        (masked_sgd_ if kind == "sgd" else masked_adamw_)(param, grad, *states, mask, **options, **extra)
    return [param, *states]


def theirs(kind, param, grads, mask, options):
    param = torch.nn.Parameter(param.clone())
    optimizer = (torch.optim.SGD if kind == "sgd" else torch.optim.AdamW)([param], **options)
    names = ["momentum_buffer"] if kind == "sgd" else ["exp_avg", "exp_avg_sq"]
    for grad in grads:
        param.grad = grad.clone()
        optimizer.step()
        states = [optimizer.state[param][name] for name in names]
        with torch.no_grad():
            for x in (param, *states):
                x.mul_(mask)
    return [param.detach(), *states]


CASES = [
    ("sgd", {"lr": 0.1, "momentum": 0.9}),
    ("sgd", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "nesterov": True}),
    ("adamw", {"lr": 0.01}),
    ("adamw", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}),
]


def make(shape, dtype, device, steps=3):
    mask = torch.rand(shape, device=device) > 0.5
    return torch.randn(shape, device=device).to(dtype), [torch.randn(shape, device=device).to(dtype) for _ in range(steps)], mask


@pytest.mark.parametrize(("kind", "options"), CASES)
@pytest.mark.parametrize("shape", [(7, 11), (3, 4, 3, 3), (5000,), (), (0, 3)])
@pytest.mark.parametrize("backend", ["reference", "triton"])
def test_against_torch(kind, options, shape, backend, device):
    param, grads, mask = make(shape, torch.float32, device)
    expected = theirs(kind, param, grads, mask, options)
    with dispatch.backend(backend):
        got = ours(kind, param, grads, mask, options)
    for x, y in zip(got, expected, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-6)
        assert not x[~mask].any()
    path = "torch" if backend == "reference" else "blocks"
    assert dispatch.used() == ({(f"masked_{kind}", backend, path): 3} if param.numel() or backend == "reference" else {})


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
@pytest.mark.parametrize("backend", ["reference", "triton"])
def test_what_is_masked_is_zero_whatever_its_gradient_was(kind, backend, device):
    mask = torch.arange(6, device=device) % 2 == 0
    grad = torch.ones(6, device=device).where(mask, torch.tensor([0.0, torch.nan, 0.0, torch.inf, 0.0, -torch.inf], device=device))
    with dispatch.backend(backend):
        for x in ours(kind, torch.ones(6, device=device), [grad], mask, {"lr": 0.1}):
            assert x.isfinite().all()
            assert not x[~mask].any()


@pytest.mark.parametrize(("kind", "options"), CASES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_parity_over_dtypes(kind, options, dtype, device):
    """One step, to one unit in the last place: the interpreter truncates to bfloat16 where a GPU rounds."""
    param, grads, mask = make((40, 30), dtype, device, steps=1)
    expected = ours(kind, param.clone(), grads, mask, options)
    with dispatch.backend("triton"):
        got = ours(kind, param, grads, mask, options)
    for x, y in zip(got, expected, strict=True):
        assert x.dtype == dtype
        torch.testing.assert_close(x, y, rtol=torch.finfo(dtype).eps if dtype != torch.float32 else 1e-5, atol=1e-6)


def test_mixed_precision_and_channels_last(device):
    """A bfloat16 weight with float32 averages; then strides that are dense but not row-major."""
    param, (grad,), mask = make((4, 3, 5, 5), torch.bfloat16, device, steps=1)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        x, g, m, *states = (t.to(memory_format=memory_format) for t in (param, grad, mask, *torch.zeros(2, 4, 3, 5, 5, device=device)))
        results = []
        for backend in ("reference", "triton"):
            with dispatch.backend(backend):
                moved = [t.clone() for t in (x, *states)]
                masked_adamw_(moved[0], g, *moved[1:], m, step=1)
                results.append(moved)
        for a, b in zip(*results, strict=True):
            torch.testing.assert_close(a, b)
            assert a.is_contiguous(memory_format=memory_format)


def test_bad_requests(device):
    param, (grad,), mask = make((4, 6), torch.float32, device, steps=1)
    with pytest.raises(ValueError, match="shapes differ"):
        masked_sgd_(param, grad[:2], grad.clone(), mask, lr=0.1)
    with pytest.raises(ValueError, match="boolean"):
        masked_sgd_(param, grad, grad.clone(), mask.float(), lr=0.1)
    before = param.T.clone()
    with dispatch.backend("triton"), pytest.raises(RuntimeError, match="not all dense in the same order"):
        masked_sgd_(param.T, before, before.clone(), mask.T, lr=0.1)
    assert torch.equal(param.T, before)


def test_a_step_below_one_is_refused(device):
    """Before anything is changed: the correction for the start would divide by zero."""
    param, (grad,), mask = make((4, 6), torch.float32, device, steps=1)
    states = torch.zeros(2, 4, 6, device=device)
    for backend in ("reference", "triton"):
        with dispatch.backend(backend), pytest.raises(ValueError, match="step counts from 1, not 0"):
            masked_adamw_(param, grad, *states, mask, step=0)
    assert not states.any()


def test_averages_near_one_in_single_precision(device, monkeypatch):
    """A GPU takes scalars in float32, whose 1 - 0.99999 is off by a thousandth; the interpreter does not."""

    class Single:
        def __getitem__(self, grid, kernel=masked_step_triton._adamw):
            return lambda *given, **more: kernel[grid](*(torch.tensor(x).item() if isinstance(x, float) else x for x in given), **more)

    monkeypatch.setattr(masked_step_triton, "_adamw", Single())
    param, grad, mask = torch.ones(5, device=device), torch.full((5,), 0.5, device=device), torch.ones(5, dtype=torch.bool, device=device)
    first, second = torch.zeros(2, 5, device=device)
    with dispatch.backend("triton"):
        masked_adamw_(param, grad, first, second, mask, step=1, betas=(0.9999, 0.99999))
    torch.testing.assert_close(first, torch.full_like(first, 1e-4 * 0.5), rtol=1e-6, atol=0)
    torch.testing.assert_close(second, torch.full_like(second, 1e-5 * 0.25), rtol=1e-6, atol=0)


def test_an_infinite_weight_without_decay_leaves_the_buffer_finite(device):
    for backend in ("reference", "triton"):
        param, buffer = torch.tensor([torch.inf, 1.0], device=device), torch.zeros(2, device=device)
        with dispatch.backend(backend):
            masked_sgd_(param, torch.ones_like(param), buffer, torch.ones_like(param, dtype=torch.bool), lr=0.5)
        assert (param.tolist(), buffer.tolist()) == ([torch.inf, 0.5], [1.0, 1.0])


@pytest.mark.parametrize("shape", [(5, 1), (4, 3, 1, 1), (2, 0, 1)])
def test_strides_of_dimensions_of_one_do_not_matter(shape, device):
    """A gradient of a column, or of a 1 x 1 convolution, often has others than its weight."""
    param, (grad,), mask = make(shape, torch.float32, device, steps=1)
    stride = list(grad.stride())
    stride[-1] = 77
    with dispatch.backend("triton"):
        masked_sgd_(param, grad.as_strided(shape, stride), torch.zeros_like(param), mask, lr=0.1)
    assert param.numel() == 0 or dispatch.used() == {("masked_sgd", "triton", "blocks"): 1}


def test_a_kept_mask_of_ones_is_the_plain_step_and_zeros_erase(device):
    param, grads, mask = make((9, 9), torch.float32, device)
    with dispatch.backend("triton"):
        full = ours("sgd", param.clone(), grads, torch.ones_like(mask), {"lr": 0.1})
        none = ours("sgd", param.clone(), grads, torch.zeros_like(mask), {"lr": 0.1})
    expected = theirs("sgd", param, grads, torch.ones_like(mask), {"lr": 0.1, "momentum": 0.9})
    torch.testing.assert_close(full, expected, rtol=1e-5, atol=1e-6)
    assert not any(x.any() for x in none)


def test_opcheck_and_compile(device):
    param, (grad,), mask = make((4, 6), torch.float32, device, steps=1)
    torch.library.opcheck(fused_sgd_, (param, grad, grad.clone(), mask, 0.1, 0.9, 0.0, True))
    torch.library.opcheck(fused_adamw_, (param, grad, grad.clone(), grad.abs(), mask, 0.1, 0.9, 0.99, 1e-8, 0.1, 0.5, 0.5))
    buffer, expected = torch.zeros_like(param), param.clone()
    masked_sgd_(expected, grad, buffer.clone(), mask, lr=0.1)
    with dispatch.backend("triton"):
        dispatch.reset()
        torch.compile(masked_sgd_, fullgraph=True, backend="aot_eager")(param, grad, buffer, mask, lr=0.1)
    assert dispatch.used() == {("masked_sgd", "triton", "blocks"): 1}
    torch.testing.assert_close(param, expected)
