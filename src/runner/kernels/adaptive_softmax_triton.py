"""Kernel of the softmax with a temperature from its entropy: one read of the scores forward; backward reads them and the gradient."""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import layout
from .dispatch import count
from .exponential_triton import finite


@triton.jit
def _rows(
    x, grad, out, rows, cols, x_stride, grad_stride, threshold,
    POLYNOMIAL: tl.constexpr, DEGREE: tl.constexpr, BACKWARD: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    row = (tl.program_id(0) * HEIGHT + tl.arange(0, HEIGHT)).to(tl.int64)[:, None]
    col = tl.arange(0, WIDTH)[None, :]
    inside = (row < rows) & (col < cols)
    s = tl.load(x + row * x_stride + col, inside, other=float("-inf")).to(tl.float32)
    top = tl.max(s, 1)[:, None]
    z = (s - finite(top)) * 1.4426950408889634
    known = tl.maximum(z, -1e4)  # times the weights, which are 0 far above that, as -inf would not be
    e = tl.exp2(z)
    total = tl.sum(e, 1)[:, None]
    total = tl.where(total == 0, 1.0, total)
    gap = -tl.sum(e * known, 1)[:, None] / total
    entropy = tl.log(total) + gap * 0.6931471805599453
    value = tl.zeros_like(entropy)
    slope = tl.zeros_like(entropy)
    for i in tl.static_range(DEGREE):
        slope = slope * entropy + value
        value = value * entropy + POLYNOMIAL[i]
    sharper = (entropy > threshold) & (value > 1)
    inverse = tl.where(sharper, value, 1.0)
    sharp = tl.exp2(z * inverse)
    share = tl.sum(sharp, 1)[:, None]
    share = 1 / tl.where(share == 0, 1.0, share)
    if BACKWARD:
        g = tl.load(grad + row * grad_stride + col, inside, other=0.0).to(tl.float32)
        d = sharp * (g - tl.sum(sharp * g, 1)[:, None] * share)
        in_entropy = tl.where(sharper, slope, 0.0) * share * tl.sum(d * known, 1)[:, None] * (0.6931471805599453 * 0.6931471805599453)
        y = d * (share * inverse) - e * (known + gap) * (in_entropy / total)
    else:
        y = sharp * share
    tl.store(out + row * cols + col, y.to(out.dtype.element_ty), inside)


def _launch(op: str, x: Tensor, grad: Tensor, polynomial: Sequence[float], threshold: float, backward: bool) -> Tensor:
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if x.numel():
        x, grad = layout.dense(x), layout.dense(grad)
        height, width, warps = layout.tile(x.shape[1])
        _rows[(triton.cdiv(len(x), height),)](
            x, grad, out, *x.shape, x.stride(0), grad.stride(0), float(threshold),
            POLYNOMIAL=tuple(polynomial), DEGREE=len(polynomial), BACKWARD=backward, HEIGHT=height, WIDTH=width, num_warps=warps,
        )  # fmt: skip
        count(op, "triton", "rows")
    return out


def forward(x: Tensor, polynomial: Sequence[float], threshold: float) -> Tensor:
    """Along the last dimension of `x`."""
    return _launch("adaptive_softmax", x, x, polynomial, threshold, False)


def backward(grad: Tensor, x: Tensor, polynomial: Sequence[float], threshold: float) -> Tensor:
    return _launch("adaptive_softmax_backward", x, grad, polynomial, threshold, True)
