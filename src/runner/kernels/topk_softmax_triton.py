"""Kernels of the softmax that keeps k entries of a row: one read of the logits, and k passes over registers."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import layout
from .dispatch import count


@triton.jit
def ordered(s):
    """An integer that orders like the float32 `s`: 0 and -0 are one, NaN of either sign is above all."""
    bits = tl.where(s == 0, 0.0, s).to(tl.int32, bitcast=True)
    return tl.where(s == s, bits ^ ((bits >> 31) & 0x7FFFFFFF), 0x7FFFFFFF)


@triton.jit
def number(key):
    """The number of an `ordered` integer."""
    return (key ^ ((key >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)


@triton.jit
def _forward(
    x, values, best, log_z, rows, cols, x_stride, scale, k,
    RENORMALISE: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, KEPT: tl.constexpr,
):  # fmt: skip
    row = (tl.program_id(0) * HEIGHT + tl.arange(0, HEIGHT)).to(tl.int64)[:, None]
    col = tl.arange(0, WIDTH)[None, :]
    inside = (row < rows) & (col < cols)
    lowest = -0x80000000
    key = tl.where(inside, ordered(tl.load(x + row * x_stride + col, inside, other=float("-inf")).to(tl.float32)), lowest)
    each = tl.arange(0, KEPT)[None, :]
    first = tl.full([HEIGHT, 1], 0x7FFFFFFF, tl.int32)
    at = tl.full([HEIGHT, 1], -1, tl.int32)
    kept = tl.full([HEIGHT, KEPT], lowest, tl.int32)
    places = tl.full([HEIGHT, KEPT], 0, tl.int32)
    for j in range(k):  # the largest of those that come after the one before, and the first of its place
        left = (key < first) | ((key == first) & (col > at))
        first = tl.max(tl.where(left, key, lowest), 1)[:, None]
        at = tl.min(tl.where(left & (key == first), col, WIDTH), 1)[:, None]
        kept = tl.where(each == j, first, kept)
        places = tl.where(each == j, at, places)
    top = number(tl.max(kept, 1))[:, None]
    top = tl.where(top == float("-inf"), 0.0, top)
    value = tl.where(each < k, tl.exp((number(kept) - top) * scale), 0.0)
    if RENORMALISE:
        total = tl.sum(value, 1)[:, None]
    else:
        total = tl.sum(tl.where(inside, tl.exp((number(key) - top) * scale), 0.0), 1)[:, None]
    total = tl.where(total == 0, 1.0, total)
    inside = (row < rows) & (each < k)
    tl.store(values + row * k + each, (value / total).to(values.dtype.element_ty), inside)
    tl.store(best + row * k + each, places, inside)
    tl.store(log_z + row, tl.log(total), row < rows)  # less the maximum, beside which large logits would round it


@triton.jit
def _backward(
    grad, x, values, best, log_z, out, rows, cols, x_stride, scale, k,
    RENORMALISE: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, KEPT: tl.constexpr,
):  # fmt: skip
    row = (tl.program_id(0) * HEIGHT + tl.arange(0, HEIGHT)).to(tl.int64)[:, None]
    each = tl.arange(0, KEPT)[None, :]
    kept = (row < rows) & (each < k)
    v = tl.load(values + row * k + each, kept, other=0.0).to(tl.float32)
    g = tl.load(grad + row * k + each, kept, other=0.0).to(tl.float32)
    dot = tl.sum(v * g, 1)[:, None]
    col = tl.arange(0, WIDTH)[None, :]
    inside = (row < rows) & (col < cols)
    d = tl.zeros([HEIGHT, WIDTH], tl.float32)
    if not RENORMALISE:
        s = tl.load(x + row * x_stride + col, inside, other=float("-inf")).to(tl.float32)
        top = tl.max(s, 1)[:, None]
        top = tl.where(top == float("-inf"), 0.0, top)
        d -= tl.exp((s - top) * scale - tl.load(log_z + row, row < rows, other=0.0)) * dot
    for j in range(k):
        at = tl.load(best + row * k + j, row < rows, other=0).to(tl.int32)
        value = tl.load(values + row * k + j, row < rows, other=0.0).to(tl.float32)
        slope = tl.load(grad + row * k + j, row < rows, other=0.0).to(tl.float32)
        if RENORMALISE:
            slope -= dot
        d = tl.where(col == at, d + value * slope, d)
    tl.store(out + row * cols + col, (d * scale).to(out.dtype.element_ty), inside)


def forward(x: Tensor, k: int, temperature: float, renormalise: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Values, indices and log-partitions less the maximum along the last dimension of `x`."""
    lead = x.shape[:-1]
    values = torch.empty(*lead, k, dtype=x.dtype, device=x.device)
    best = torch.empty(*lead, k, dtype=torch.int64, device=x.device)
    log_z = torch.empty(lead, dtype=torch.float32, device=x.device)
    if x.numel():
        x = layout.dense(x)
        height, width, warps = layout.tile(x.shape[1])
        _forward[(triton.cdiv(len(x), height),)](
            x, values, best, log_z, *x.shape, x.stride(0), 1 / temperature, k,
            RENORMALISE=renormalise, HEIGHT=height, WIDTH=width, KEPT=layout.power_of_two(k), num_warps=warps,
        )  # fmt: skip
        count("topk_softmax", "triton", "rows")
    return values, best, log_z


def backward(grad: Tensor, x: Tensor, values: Tensor, best: Tensor, log_z: Tensor, temperature: float, renormalise: bool) -> Tensor:
    """Gradient in the logits, from the gradient in the values."""
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if x.numel():
        x, k = layout.dense(x), values.shape[-1]
        height, width, warps = layout.tile(x.shape[1])
        _backward[(triton.cdiv(len(x), height),)](
            grad.contiguous(), x, values, best, log_z, out, *x.shape, x.stride(0), 1 / temperature, k,
            RENORMALISE=renormalise, HEIGHT=height, WIDTH=width, KEPT=layout.power_of_two(k), num_warps=warps,
        )  # fmt: skip
        count("topk_softmax_backward", "triton", "rows")
    return out
