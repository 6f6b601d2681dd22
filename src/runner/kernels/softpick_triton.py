"""Kernels of softpick: rows are read once forward; backward reads the input and the gradient, not the output."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import layout
from .dispatch import count
from .exponential_triton import exp


@triton.jit
def _load(x, at, inside):
    """Masked entries become zeros, which add nothing to any sum and get no weight."""
    s = tl.load(x + at, inside, other=0.0).to(tl.float32)
    return tl.where(s == float("-inf"), 0.0, s)


@triton.jit
def _rise(s, e, one):
    """e - one, where these are exp(s - top) and exp(-top), for small s by a series that keeps their digits."""
    series = 1 + s * (1 / 2 + s * (1 / 6 + s * (1 / 24 + s * (1 / 120 + s * (1 / 720 + s * (1 / 5040))))))
    return tl.where(tl.abs(s) < 0.4, s * series * one, e - one)


@triton.jit
def _forward(x, y, tops, totals, rows, cols, x_stride, eps, HEIGHT: tl.constexpr, WIDTH: tl.constexpr):
    row = (tl.program_id(0) * HEIGHT + tl.arange(0, HEIGHT)).to(tl.int64)[:, None]
    col = tl.arange(0, WIDTH)[None, :]
    inside = (row < rows) & (col < cols)
    s = _load(x, row * x_stride + col, inside)
    top = tl.maximum(tl.max(s, 1), 0.0)[:, None]
    one = exp(-top)
    rise = _rise(s, exp(s - top), one)
    total = tl.sum(tl.abs(rise), 1)[:, None] + eps * one
    tl.store(tops + row, top, row < rows)
    tl.store(totals + row, total, row < rows)
    tl.store(y + row * cols + col, (tl.maximum(rise, 0.0) * (1 / total)).to(y.dtype.element_ty), inside)


@triton.jit
def _backward(grad, x, tops, totals, out, rows, cols, grad_stride, x_stride, HEIGHT: tl.constexpr, WIDTH: tl.constexpr):
    row = (tl.program_id(0) * HEIGHT + tl.arange(0, HEIGHT)).to(tl.int64)[:, None]
    col = tl.arange(0, WIDTH)[None, :]
    inside = (row < rows) & (col < cols)
    s = _load(x, row * x_stride + col, inside)
    g = tl.load(grad + row * grad_stride + col, inside, other=0.0).to(tl.float32)
    top = tl.load(tops + row, row < rows, other=0.0)
    share = 1 / tl.load(totals + row, row < rows, other=1.0)
    e = exp(s - top)
    dot = tl.sum(g * tl.maximum(_rise(s, e, exp(-top)), 0.0), 1)[:, None] * share
    d = tl.where(s > 0, g - dot, tl.where(s < 0, dot, 0.0)) * (e * share)
    tl.store(out + row * cols + col, d.to(out.dtype.element_ty), inside)


def forward(x: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    top, total = (torch.empty(x.shape[:-1], dtype=torch.float32, device=x.device) for _ in range(2))
    if x.numel():
        x = layout.dense(x)
        height, width, warps = layout.tile(x.shape[1])
        grid = (triton.cdiv(len(x), height),)
        _forward[grid](x, y, top, total, *x.shape, x.stride(0), eps, HEIGHT=height, WIDTH=width, num_warps=warps)
        count("softpick", "triton", "rows")
    return y, top, total


def backward(grad: Tensor, x: Tensor, top: Tensor, total: Tensor) -> Tensor:
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if x.numel():
        x, grad = layout.dense(x), layout.dense(grad)
        height, width, warps = layout.tile(x.shape[1])
        grid = (triton.cdiv(len(x), height),)
        _backward[grid](grad, x, top, total, out, *x.shape, grad.stride(0), x.stride(0), HEIGHT=height, WIDTH=width, num_warps=warps)
        count("softpick_backward", "triton", "rows")
    return out
