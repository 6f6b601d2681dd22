"""A linear layer with a mask: against the masked weight in torch, and the kernel against the reference."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.kernels import dispatch, masked_linear, nm_mask
from runner.kernels.masked_linear import fused_masked_product

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TOLERANCE = {  # relative to the scale of the result: sums of products are rounded once
    torch.float32: 2e-5,
    torch.float16: 2e-3,
    torch.bfloat16: 1.6e-2,
}


@pytest.fixture(params=["reference", "triton"])
def backend(request):
    with dispatch.backend(request.param):
        yield request.param


def draw(shape, out, dtype, device, share=0.4, kind=torch.bool):
    x, w, b = (torch.randn(s, device=device).to(dtype) for s in (shape, (out, shape[-1]), (out,)))
    return x, w, b, (torch.rand(w.shape, device=device) < share).to(kind)


def close(got, expected, dtype):
    scale = expected.abs().max().clamp_min(1).item() if expected.numel() else 1
    torch.testing.assert_close(got.double(), expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * scale)


def parity(x, w, mask, bias=None):
    """Value and gradients against float64; the kernels that ran."""
    single = [t if t is None else t.detach().requires_grad_() for t in (x, w, bias)]
    double = [t if t is None else t.detach().double().requires_grad_() for t in (x, w, bias)]
    expected = F.linear(double[0], double[1] * (mask != 0), double[2])
    dispatch.reset()
    with dispatch.backend("triton"):
        y = masked_linear(single[0], single[1], mask, single[2])
    grad = torch.randn_like(y)
    expected.backward(grad.double())
    y.backward(grad)
    if y.numel() and w.numel():
        assert dispatch.used() == {("masked_linear", "triton", "operand"): 2, ("masked_linear", "triton", "result"): 1}
    assert y.dtype == x.dtype
    close(y, expected, x.dtype)
    for t, d in zip(single, double, strict=True):
        if t is not None:
            assert t.grad.dtype == t.dtype
            close(t.grad, d.grad, x.dtype)
    assert not single[1].grad[mask == 0].any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "out"), [((1, 1), 1), ((2, 3, 65), 130), ((127, 40), 3), ((5, 1023), 17), ((70, 2), 129)])
def test_parity(dtype, shape, out, device):
    """Shapes that are no multiples of a tile, more tiles than one in each direction, three dimensions."""
    x, w, b, mask = draw(shape, out, dtype, device)
    parity(x, w, mask, b)


def test_parity_of_masks_views_and_edges(device):
    x, w, b, mask = draw((6, 40), 24, torch.float32, device)
    parity(x, w, mask.to(torch.uint8) * 200, b)
    parity(x, w, mask)
    parity(x, w, torch.zeros_like(mask), b)
    parity(x, w, torch.ones_like(mask))
    parity(x, w, nm_mask(w, 2, 4), b)
    parity(torch.randn(40, 6, device=device).t(), torch.randn(40, 24, device=device).t(), mask.t().contiguous().t(), b)
    parity(x[:, ::2], w[::2, 1::2], mask[::2, 1::2], b[::2])
    parity(x[:1].expand(5, 40), w, mask, b)
    parity(x[:0], w, mask, b)
    parity(x[:, :0], w[:, :0], mask[:, :0], b)
    parity(x, w[:0], mask[:0], b[:0])
    parity(x * 1e4, w, mask, b)


def test_one_dimension(backend, device):
    x, w, b, mask = draw((7,), 5, torch.float32, device)
    torch.testing.assert_close(masked_linear(x, w, mask, b), F.linear(x, w * mask, b))


def test_what_is_masked_takes_no_part(backend, device):
    """Not even a NaN; and its gradient is an exact zero."""
    x, w, b, mask = draw((4, 9), 6, torch.float32, device)
    w.requires_grad_()
    masked_linear(x, w, mask, b).square().sum().backward()
    assert not w.grad[~mask].any()
    assert w.grad[mask].all()
    broken = w.detach().masked_fill(~mask, torch.nan)
    broken[~mask] = torch.where(torch.rand(int((~mask).sum()), device=device) < 0.5, torch.inf, torch.nan)
    torch.testing.assert_close(masked_linear(x, broken, mask, b), F.linear(x, w * mask, b), rtol=1e-5, atol=1e-5)


def test_only_what_is_asked_for_is_computed(device):
    x, w, b, mask = draw((4, 9), 6, torch.float32, device)
    for asked, ran in [(0, {"operand": 2}), (1, {"operand": 1, "result": 1}), (2, {"operand": 1})]:
        inputs = [x, w, b]
        inputs[asked] = inputs[asked].clone().requires_grad_()
        dispatch.reset()
        with dispatch.backend("triton"):
            masked_linear(inputs[0], inputs[1], mask, inputs[2]).sum().backward()
        assert dispatch.used() == {("masked_linear", "triton", path): n for path, n in ran.items()}


def test_second_derivative(device):
    mask = torch.rand(4, 5) < 0.5
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ((3, 5), (4, 5), (4,))]
    f = lambda x, w, b: masked_linear(x, w, mask, b)
    assert torch.autograd.gradcheck(f, inputs)
    assert torch.autograd.gradgradcheck(f, inputs)
    found, inputs, mask = [], [x.detach().float().to(device).requires_grad_() for x in inputs], mask.to(device)
    for choice in ("reference", "triton"):
        with dispatch.backend(choice):
            first = torch.autograd.grad(f(*inputs).pow(3).sum(), inputs, create_graph=True)
            found.append(torch.autograd.grad(sum(g.square().sum() for g in first), inputs))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-3)


def test_autocast(backend, device):
    """As F.linear: in the lower precision, with gradients in the precision of the inputs."""
    x, w, b, mask = draw((4, 9), 6, torch.float32, device)
    w.requires_grad_()
    with torch.autocast(device, torch.bfloat16):
        y = masked_linear(x, w, mask, b)
        expected = F.linear(x, w * mask, b)
    assert y.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(y, expected, rtol=1e-2, atol=2e-2)
    y.float().sum().backward()
    assert w.grad.dtype == torch.float32
    with pytest.raises(TypeError, match=r"float32 and weights torch\.float16"):
        masked_linear(x, w.half(), mask, b)


def test_bad_requests(backend, device):
    x, w, b, mask = draw((4, 9), 6, torch.float32, device)
    for bad in (mask.float(), mask[:5], mask.t()):
        with pytest.raises(ValueError, match="the mask must be boolean or uint8 of shape"):
            masked_linear(x, w, bad, b)
    with pytest.raises(ValueError, match=r"inputs of shape \(4, 8\)"):
        masked_linear(x[:, 1:], w, mask, b)
    for bad in (b[:1], b[:5], torch.cat((b, b)), b.expand(4, 6), b[0]):
        with pytest.raises(ValueError, match=r"a bias of shape \(6,\), not"):
            masked_linear(x, w, mask, bad)
    with pytest.raises(ValueError, match=r"two dimensions, not \(9,\)"):
        masked_linear(x, w[0], mask[0])


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 70), st.integers(0, 9))
def test_properties(rows, out, inner, seed):
    """Linear in the weight, additive over a mask and its complement, and whole numbers without rounding."""
    g = torch.Generator().manual_seed(seed)
    x, w = (torch.randint(-4, 5, shape, generator=g).float().to(DEVICE) for shape in ((rows, inner), (out, inner)))
    mask = (torch.rand(out, inner, generator=g) < 0.5).to(DEVICE)
    with dispatch.backend("triton"):
        y = masked_linear(x, w, mask)
        assert torch.equal(y, F.linear(x, w * mask))
        assert torch.equal(y + masked_linear(x, w, ~mask), F.linear(x, w))
        assert torch.equal(masked_linear(x, 2 * w, mask), 2 * y)


# torch's own checks


def test_opcheck_and_compile(device):
    x, w, b, mask = (t.requires_grad_() if t.is_floating_point() else t for t in draw((4, 9), 6, torch.float32, device))
    torch.library.opcheck(fused_masked_product, (x, w.t(), mask.t(), b, True))
    torch.library.opcheck(fused_masked_product, (x, w.t(), torch.ones(4, 6, dtype=torch.bool, device=device), None, False))
    f = lambda x, w, b: (masked_linear(x, w, mask, b).square() * 0.1).sum()
    expected = torch.autograd.grad(f(x, w, b), (x, w, b))
    for choice in ("reference", "triton"):
        with dispatch.backend(choice):
            dispatch.reset()
            got = torch.autograd.grad(torch.compile(f, fullgraph=True, backend="aot_eager")(x, w, b), (x, w, b))
        for a, e in zip(got, expected, strict=True):
            torch.testing.assert_close(a, e, rtol=1e-4, atol=1e-5)
    assert dispatch.used() == {("masked_linear", "triton", "operand"): 2, ("masked_linear", "triton", "result"): 1}
