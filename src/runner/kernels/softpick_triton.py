"""Kernels of softpick: rows are read once forward; backward reads the input and the gradient, not the output."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import layout
from .dispatch import count


@triton.jit
def _rise(s, top):
    """exp(s - top) - exp(-top), for small s by a series that keeps their digits."""
    small = tl.minimum(tl.maximum(s, -0.5), 0.5)
    series = tl.zeros_like(s) + 1.0
    for n in tl.static_range(7):
        series = 1.0 + small / (8 - n) * series
    one = tl.exp(-top)
    return tl.where(tl.abs(s) < 0.5, small * series * one, tl.exp(s - top) - one)


@triton.jit
def _forward(x, y, tops, totals, rows, cols, x_stride, eps, HEIGHT: tl.constexpr, WIDTH: tl.constexpr):
    row = (tl.program_id(0) * HEIGHT + tl.arange(0, HEIGHT)).to(tl.int64)[:, None]
    col = tl.arange(0, WIDTH)[None, :]
    inside = (row < rows) & (col < cols)
    s = tl.load(x + row * x_stride + col, inside, other=float("-inf")).to(tl.float32)
    top = tl.maximum(tl.max(s, 1), 0.0)[:, None]
    e = _rise(s, top)
    total = tl.sum(tl.where(s == float("-inf"), 0.0, tl.abs(e)), 1)[:, None] + eps * tl.exp(-top)
    tl.store(tops + row, top, row < rows)
    tl.store(totals + row, total, row < rows)
    tl.store(y + row * cols + col, (tl.where(e < 0, 0.0, e) / total).to(y.dtype.element_ty), inside)


@triton.jit
def _backward(grad, x, tops, totals, out, rows, cols, grad_stride, x_stride, HEIGHT: tl.constexpr, WIDTH: tl.constexpr):
    row = (tl.program_id(0) * HEIGHT + tl.arange(0, HEIGHT)).to(tl.int64)[:, None]
    col = tl.arange(0, WIDTH)[None, :]
    inside = (row < rows) & (col < cols)
    s = tl.load(x + row * x_stride + col, inside, other=float("-inf")).to(tl.float32)
    g = tl.load(grad + row * grad_stride + col, inside, other=0.0).to(tl.float32)
    top = tl.load(tops + row, row < rows, other=0.0)
    total = tl.load(totals + row, row < rows, other=1.0)
    e = tl.exp(s - top)
    picked = tl.where(s > 0, g, 0.0)
    dot = tl.sum(picked * tl.where(s > 0, _rise(s, top), 0.0) / total, 1)[:, None]
    sign = tl.where(s > 0, 1.0, tl.where(s < 0, -1.0, 0.0))
    d = (picked - sign * dot) * (e / total)
    tl.store(out + row * cols + col, tl.where(s != s, s, d).to(out.dtype.element_ty), inside)


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
