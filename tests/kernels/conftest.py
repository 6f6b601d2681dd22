"""What the tests of the kernels share. Without a GPU the Triton kernels run under the interpreter (see tests/conftest.py)."""

import pytest
import torch

from runner.kernels import dispatch, layout

GPU = torch.cuda.is_available()

TOLERANCE = {
    torch.float32: {"rtol": 2e-5, "atol": 1e-5},
    torch.float16: {"rtol": 2e-3, "atol": 1e-3},
    torch.bfloat16: {"rtol": 1.6e-2, "atol": 8e-3},
}


@pytest.fixture(autouse=True)
def fresh():
    """Every test starts from `auto`, with no counts, and its own random numbers."""
    torch.manual_seed(0)
    dispatch.reset()
    with dispatch.backend("auto"):
        yield


@pytest.fixture
def device():
    return "cuda" if GPU else "cpu"


@pytest.fixture
def narrow(monkeypatch):
    """Rows over 64 columns count as wide, so that the kernels for wide rows run at small shapes."""
    monkeypatch.setattr(layout, "WIDEST", 64)
    monkeypatch.setattr(layout, "CHUNK", 128)
    monkeypatch.setattr(layout, "PROGRAMS", 4)


@pytest.fixture
def parity():
    """A function that holds the Triton kernel against the reference in float64: values, gradients, and that the kernel did run."""

    def check(op, f, *inputs, path="rows", backward=True, **tolerance):
        double = [x.detach().double().requires_grad_(backward) for x in inputs]
        single = [x.detach().requires_grad_(backward) for x in inputs]
        with dispatch.backend("reference"):
            expected = f(*double)
        dispatch.reset()
        with dispatch.backend("triton"):
            got = f(*single)
        tolerance = tolerance or TOLERANCE[inputs[0].dtype]
        assert dispatch.used() == {(op, "triton", path): 1}
        assert got.shape == expected.shape
        torch.testing.assert_close(got.double(), expected, **tolerance)
        if not backward:
            return got
        grad = torch.randn_like(got).masked_fill(got == -torch.inf, 0)
        expected.backward(grad.double())
        got.backward(grad)
        assert dispatch.used() == {(op, "triton", path): 1, (f"{op}_backward", "triton", path): 1}
        for x, reference in zip(single, double, strict=True):
            assert x.grad.dtype == x.dtype
            torch.testing.assert_close(x.grad.double(), reference.grad, **tolerance)
        return got

    return check
