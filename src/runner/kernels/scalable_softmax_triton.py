"""Kernels of scalable-softmax: the row is counted, scaled and normalised in one read; backward reads the scores and the gradient."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import layout
from .dispatch import count
from .exponential_triton import exp


@triton.jit
def _bounds(s):
    """Which scores are not masked, their least and their greatest."""
    live = s != float("-inf")
    return live, tl.min(tl.where(live, s, float("inf")), 1)[:, None], tl.max(s, 1)[:, None]


@triton.jit
def _softmax(s, low, top, scale):
    """Scores less the one that weighs most, which a scale below zero makes the least, and the softmax of the scaled."""
    none = top == float("-inf")
    s -= tl.where(none, 0.0, tl.where(scale < 0, low, top))
    steep = tl.where(none | (scale == 0), 1e-44, tl.abs(scale)).to(tl.float32)  # times it no finite score counts, and -inf stays what it is
    e = exp(-tl.abs(s), steep)
    total = tl.sum(e, 1)[:, None]
    return s, e * (1 / tl.where(total == 0, 1.0, total))


@triton.jit
def _forward(x, scale, bias, y, log_n, rows, cols, x_stride, HEIGHT: tl.constexpr, WIDTH: tl.constexpr):
    row = (tl.program_id(0) * HEIGHT + tl.arange(0, HEIGHT)).to(tl.int64)[:, None]
    col = tl.arange(0, WIDTH)[None, :]
    inside = (row < rows) & (col < cols)
    s = tl.load(x + row * x_stride + col, inside, other=float("-inf")).to(tl.float32)
    live, low, top = _bounds(s)
    log = tl.log(tl.maximum(tl.sum(tl.where(live, 1.0, 0.0), 1)[:, None], 1.0))
    s, p = _softmax(s, low, top, tl.load(scale + row, row < rows, other=0.0) * log + tl.load(bias + row, row < rows, other=0.0))
    tl.store(log_n + row, log, row < rows)
    tl.store(y + row * cols + col, p.to(y.dtype.element_ty), inside)


@triton.jit
def _backward(grad, x, scale, out, slope, rows, cols, grad_stride, x_stride, HEIGHT: tl.constexpr, WIDTH: tl.constexpr):
    row = (tl.program_id(0) * HEIGHT + tl.arange(0, HEIGHT)).to(tl.int64)[:, None]
    col = tl.arange(0, WIDTH)[None, :]
    inside = (row < rows) & (col < cols)
    s = tl.load(x + row * x_stride + col, inside, other=float("-inf")).to(tl.float32)
    g = tl.load(grad + row * grad_stride + col, inside, other=0.0).to(tl.float32)
    c = tl.load(scale + row, row < rows, other=0.0)
    _, low, top = _bounds(s)
    s, p = _softmax(s, low, top, c)
    d = p * (g - tl.sum(p * g, 1)[:, None])
    tl.store(slope + row, tl.sum(d * tl.maximum(s, -3e38), 1)[:, None], row < rows)
    tl.store(out + row * cols + col, (d * c).to(out.dtype.element_ty), inside)


def forward(x: Tensor, scale: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Along the last dimension of `x`; scale and bias have the shape of its rows."""
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    log_n = torch.empty(x.shape[:-1], dtype=torch.float32, device=x.device)
    if x.numel():
        x = layout.dense(x)
        height, width, warps = layout.tile(x.shape[1])
        _forward[(triton.cdiv(len(x), height),)](
            x, scale.contiguous(), bias.contiguous(), y, log_n, *x.shape, x.stride(0), HEIGHT=height, WIDTH=width, num_warps=warps
        )
        count("scalable_softmax", "triton", "rows")
    return y, log_n


def backward(grad: Tensor, x: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """`scale` is what the scores of each row were multiplied by."""
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    slope = torch.empty(x.shape[:-1], dtype=torch.float32, device=x.device)
    if x.numel():
        x, grad = layout.dense(x), layout.dense(grad)
        height, width, warps = layout.tile(x.shape[1])
        _backward[(triton.cdiv(len(x), height),)](
            grad, x, scale.contiguous(), out, slope, *x.shape, grad.stride(0), x.stride(0), HEIGHT=height, WIDTH=width, num_warps=warps
        )
        count("scalable_softmax_backward", "triton", "rows")
    return out, slope
