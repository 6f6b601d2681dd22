"""Kernel of the self-adjust softmax: one read of the scores forward; backward reads them and the gradient, and nothing else is kept."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import layout
from .dispatch import count
from .exponential_triton import exp, finite


@triton.jit
def _rows(
    x, grad, out, rows, cols, x_stride, grad_stride,
    NORMALISE: tl.constexpr, BACKWARD: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    row = (tl.program_id(0) * HEIGHT + tl.arange(0, HEIGHT)).to(tl.int64)[:, None]
    col = tl.arange(0, WIDTH)[None, :]
    inside = (row < rows) & (col < cols)
    s = tl.load(x + row * x_stride + col, inside, other=float("-inf")).to(tl.float32)
    top = tl.max(s, 1)[:, None]
    e = exp(s - finite(top))
    total = tl.sum(e, 1)[:, None]
    p = e * (1 / tl.where(total == 0, 1.0, total))
    if NORMALISE:
        low = tl.min(tl.where(s == float("-inf"), float("inf"), s), 1)[:, None]
        least = tl.minimum(low, 0.0)
        width = tl.maximum(top, 0.0) - least
        slope = 1.0 / tl.where(width == 0, 1.0, width)
        factor = (tl.maximum(s, least) - least) * slope
    else:
        factor = tl.where(s == float("-inf"), 0.0, s)
    if BACKWARD:
        g = tl.load(grad + row * grad_stride + col, inside, other=0.0).to(tl.float32)
        h = p * g
        whole = tl.sum(h, 1)[:, None]
        dot = tl.sum(h * factor, 1)[:, None]
        if not NORMALISE:
            y = h * (1 + factor) - p * dot  # a large factor times the gradient alone could overflow
        else:  # the gradients in low and high, shared between the entries that attain them
            lowest = s == tl.where(low < 0, low, float("inf"))
            highest = s == tl.where(top > 0, top, float("inf"))
            first = (dot - whole) * slope / tl.maximum(tl.sum(tl.where(lowest, 1.0, 0.0), 1)[:, None], 1.0)
            last = dot * slope / tl.maximum(tl.sum(tl.where(highest, 1.0, 0.0), 1)[:, None], 1.0)
            y = p * (g * (slope + factor) - dot) + tl.where(lowest, first, tl.where(highest, -last, 0.0))
    else:
        y = factor * p
    tl.store(out + row * cols + col, y.to(out.dtype.element_ty), inside)


def _launch(op: str, x: Tensor, grad: Tensor, normalise: bool, backward: bool) -> Tensor:
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if x.numel():
        x, grad = layout.dense(x), layout.dense(grad)
        height, width, warps = layout.tile(x.shape[1])
        constants = {"NORMALISE": normalise, "BACKWARD": backward, "HEIGHT": height, "WIDTH": width, "num_warps": warps}
        _rows[(triton.cdiv(len(x), height),)](x, grad, out, *x.shape, x.stride(0), grad.stride(0), **constants)
        count(op, "triton", "rows")
    return out


def forward(x: Tensor, normalise: bool) -> Tensor:
    """Along the last dimension of `x`."""
    return _launch("self_adjust_softmax", x, x, normalise, False)


def backward(grad: Tensor, x: Tensor, normalise: bool) -> Tensor:
    return _launch("self_adjust_softmax_backward", x, grad, normalise, True)
