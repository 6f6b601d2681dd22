"""Kernels of the softmax that keeps k entries of a row: one read of the logits, and k passes over registers."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import layout
from .dispatch import count
from .exponential_triton import exp, finite

LOWEST = tl.constexpr(-0x80000000)  # below every `ordered` integer


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
def _higher(a, b):
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def _largest(key, col, passes, LAST: tl.constexpr, HEIGHT: tl.constexpr, KEPT: tl.constexpr):
    """The `passes` largest keys of each row, in order, and their columns; among equal keys the first column. Columns are below LAST."""
    each = tl.arange(0, KEPT)[None, :]
    kept = tl.full([HEIGHT, KEPT], LOWEST, tl.int32)
    places = tl.full([HEIGHT, KEPT], 0, tl.int32)
    for j in range(passes):
        first = tl.max(key, 1)[:, None]
        at = tl.min(tl.where(key == first, col, LAST), 1)[:, None]
        key = tl.where(col == at, LOWEST, key)
        kept = tl.where(each == j, first, kept)
        places = tl.where(each == j, at, places)
    return kept, places


@triton.jit
def _forward(
    x, values, best, log_z, rows, cols, x_stride, scale, k,
    RENORMALISE: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, GROUP: tl.constexpr, KEPT: tl.constexpr,
):  # fmt: skip
    """The k largest entries lie in the k groups of neighbouring columns whose largest entries are the largest: only those are searched."""
    row = (tl.program_id(0) * HEIGHT + tl.arange(0, HEIGHT)).to(tl.int64)[:, None]
    col = tl.arange(0, WIDTH)[None, :]
    s = tl.load(x + row * x_stride + col, (row < rows) & (col < cols), other=float("-inf")).to(tl.float32)
    highest = tl.reduce(s.reshape(HEIGHT, WIDTH // GROUP, GROUP), 2, _higher)
    if not RENORMALISE:
        top = tl.max(highest, 1)[:, None]
        total = tl.sum(exp(s - finite(top), scale), 1)[:, None]
    group = tl.arange(0, WIDTH // GROUP)[None, :]
    groups = tl.cdiv(cols, GROUP)
    key = tl.where(group < groups, ordered(highest), LOWEST)
    key, group = _largest(key, group, tl.minimum(k, groups), WIDTH // GROUP, HEIGHT, KEPT)
    col = (group[:, :, None] * GROUP + tl.arange(0, GROUP)[None, None, :]).reshape(HEIGHT, KEPT * GROUP)
    found = (key[:, :, None] + tl.zeros([1, 1, GROUP], tl.int32)).reshape(HEIGHT, KEPT * GROUP) > LOWEST
    inside = (row < rows) & (col < cols) & found
    s = tl.load(x + row * x_stride + col, inside, other=float("-inf")).to(tl.float32)
    kept, places = _largest(tl.where(inside, ordered(s), LOWEST), col, k, WIDTH, HEIGHT, KEPT)
    each = tl.arange(0, KEPT)[None, :]
    top = number(tl.max(kept, 1))[:, None]
    top = finite(top)
    value = tl.where(each < k, exp(number(kept) - top, scale), 0.0)
    if RENORMALISE:
        total = tl.sum(value, 1)[:, None]
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
    """What all entries of a row get, then over it what the k kept ones get."""
    row = (tl.program_id(0) * HEIGHT + tl.arange(0, HEIGHT)).to(tl.int64)[:, None]
    each = tl.arange(0, KEPT)[None, :]
    kept = (row < rows) & (each < k)
    at = tl.load(best + row * k + each, kept, other=0)
    v = tl.load(values + row * k + each, kept, other=0.0).to(tl.float32)
    g = tl.load(grad + row * k + each, kept, other=0.0).to(tl.float32)
    dot = tl.sum(v * g, 1).reshape(HEIGHT, 1)  # not [:, None], beside which the compiler moves whole rows through shared memory
    col = tl.arange(0, WIDTH)[None, :]
    inside = (row < rows) & (col < cols)
    if RENORMALISE:
        d = tl.zeros([HEIGHT, WIDTH], tl.float32)
        kept_d = v * (g - dot) * scale
    else:
        best_s = tl.load(x + row * x_stride + at, kept, other=float("-inf")).to(tl.float32)
        s = tl.load(x + row * x_stride + col, inside, other=float("-inf")).to(tl.float32)
        top = tl.max(s, 1)[:, None]
        top = finite(top)
        factor = scale * 1.4426950408889634
        log2_z = tl.load(log_z + row, row < rows, other=0.0) * 1.4426950408889634
        d = tl.exp2((s - top) * factor - log2_z) * dot * -scale
        kept_d = (v * g - tl.exp2((best_s - top) * factor - log2_z) * dot) * scale
    tl.store(out + row * cols + col, d.to(out.dtype.element_ty), inside)
    tl.debug_barrier()  # one thread stores over what another has stored
    tl.store(out + row * cols + at, kept_d.to(out.dtype.element_ty), kept)


def forward(x: Tensor, k: int, temperature: float, renormalise: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Values, indices and log-partitions less the maximum along the last dimension of `x`."""
    lead = x.shape[:-1]
    values = torch.empty(*lead, k, dtype=x.dtype, device=x.device)
    best = torch.empty(*lead, k, dtype=torch.int64, device=x.device)
    log_z = torch.empty(lead, dtype=torch.float32, device=x.device)
    if x.numel():
        x = layout.dense(x)
        height, width, warps = layout.tile(x.shape[1])
        kept = layout.power_of_two(k)
        group = min(layout.group(x), max(width // kept // 4, 1))  # the groups that are searched are a quarter of a row, or columns
        _forward[(triton.cdiv(len(x), height),)](
            x, values, best, log_z, *x.shape, x.stride(0), 1 / temperature, k,
            RENORMALISE=renormalise, HEIGHT=height, WIDTH=width, GROUP=group, KEPT=kept,
            num_warps=max(warps // 4, 1) if group == layout.group(x) else warps,
        )  # fmt: skip
        count("topk_softmax", "triton", "rows")
    return values, best, log_z


def backward(grad: Tensor, x: Tensor, values: Tensor, best: Tensor, log_z: Tensor, temperature: float, renormalise: bool) -> Tensor:
    """Gradient in the logits, from the gradient in the values."""
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if x.numel():
        x, k = layout.dense(x), values.shape[-1]
        grad, values, best, log_z = (t.contiguous() for t in (grad, values, best, log_z))
        height, width, warps = layout.tile(x.shape[1])
        _backward[(triton.cdiv(len(x), height),)](
            grad, x, values, best, log_z, out, *x.shape, x.stride(0), 1 / temperature, k,
            RENORMALISE=renormalise, HEIGHT=height, WIDTH=width, KEPT=layout.power_of_two(k), num_warps=warps,
        )  # fmt: skip
        count("topk_softmax_backward", "triton", "rows")
    return out
