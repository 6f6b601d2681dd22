"""Forward kernels of softmax, log-softmax and softmax-plus-one.

A row that fits in one program, or in a cluster of them, is read once. A wider one is read twice: by one program where the rows fill the
GPU (the second read then comes from the cache), else by several that leave partial maxima and sums for a second launch.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import layout
from .dispatch import count
from .exponential_triton import exp, finite


@triton.jit
def _scores(
    x, mask, row, col, inside, x_stride, scale, mask_size1, mask_size2, mask0, mask1, mask2, mask_col, queries, cols,
    MASK: tl.constexpr, CAUSAL: tl.constexpr,
):  # fmt: skip
    """Scores up to a positive factor, which differences take in `exp`: only a mask that is added must see them scaled."""
    if CAUSAL:  # the bound on loading is rounded so that loads stay wide
        last_key = row % queries + cols - queries
        inside = inside & (col < (last_key + 16) // 16 * 16)
    s = tl.load(x + row * x_stride + col, inside, other=float("-inf")).to(tl.float32)
    if MASK != "none":
        last = row % mask_size2
        middle = row // mask_size2 % mask_size1
        at = mask + row // mask_size2 // mask_size1 * mask0 + middle * mask1 + last * mask2 + col * mask_col
        if MASK == "keep":
            s = tl.where(tl.load(at, inside, other=0) != 0, s, float("-inf"))
        else:
            s = s * scale + tl.load(at, inside, other=0.0).to(tl.float32)
    if CAUSAL:
        s = tl.where(col <= last_key, s, float("-inf"))
    return s


@triton.jit
def _highest(top, KIND: tl.constexpr):
    """What a row's exponentials are taken against: its maximum, 0 in a row of -inf, and at least 0 beside softmax-plus-one's unwritten score."""
    if KIND == "softmax_plus_one":
        return tl.maximum(top, 0.0)
    else:
        return finite(top)


@triton.jit
def _total(total, top, scale, KIND: tl.constexpr):
    """What divides a row's exponentials, never 0."""
    if KIND == "softmax_plus_one":
        return total + exp(-top, scale)
    else:
        return tl.where(total == 0, 1.0, total)


@triton.jit
def _finish(s, top, total, scale, KIND: tl.constexpr):
    if KIND == "log_softmax":
        return (s - top) * scale - tl.log(total)
    else:
        return exp(s - top, scale) * (1 / total)


@triton.jit
def _forward_rows(
    x, mask, y, rows, cols, x_stride, scale, mask_size1, mask_size2, mask0, mask1, mask2, mask_col, queries,
    KIND: tl.constexpr, MASK: tl.constexpr, CAUSAL: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    row = (tl.program_id(0) * HEIGHT + tl.arange(0, HEIGHT)).to(tl.int64)[:, None]
    col = tl.arange(0, WIDTH)[None, :]
    inside = (row < rows) & (col < cols)
    s = _scores(x, mask, row, col, inside, x_stride, scale, mask_size1, mask_size2, mask0, mask1, mask2, mask_col, queries, cols, MASK, CAUSAL)
    unit = 1.0 if MASK == "add" else scale
    top = _highest(tl.max(s, 1), KIND)[:, None]
    total = _total(tl.sum(exp(s - top, unit), 1)[:, None], top, unit, KIND)
    tl.store(y + row * cols + col, _finish(s, top, total, unit, KIND).to(y.dtype.element_ty), inside)


@triton.jit
def _forward_wide(
    x, mask, y, part, cols, x_stride, scale, mask_size1, mask_size2, mask0, mask1, mask2, mask_col, queries, span,
    KIND: tl.constexpr, MASK: tl.constexpr, CAUSAL: tl.constexpr,
    READ: tl.constexpr, WRITE: tl.constexpr, SPLITS: tl.constexpr, CHUNK: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    begin = tl.program_id(1) * span
    end = tl.minimum(begin + span, cols)
    splits = tl.num_programs(1)
    unit = 1.0 if MASK == "add" else scale
    lowest: tl.constexpr = 0.0 if KIND == "softmax_plus_one" else float("-inf")
    if READ:  # a thread keeps one maximum for each group of columns, which it loads at once
        tops = tl.full([CHUNK // GROUP], lowest, tl.float32)
        totals = tl.zeros([CHUNK // GROUP], tl.float32)
        for start in tl.range(begin, end, CHUNK, num_stages=4):
            col = start + tl.arange(0, CHUNK)
            s = _scores(
                x, mask, row, col, col < end, x_stride, scale, mask_size1, mask_size2, mask0, mask1, mask2, mask_col, queries, cols,
                MASK, CAUSAL,
            ).reshape(CHUNK // GROUP, GROUP)  # fmt: skip
            higher = tl.maximum(tops, tl.max(s, 1))
            base = _highest(higher, KIND)
            totals = totals * exp(tops - base, unit) + tl.sum(exp(s - base[:, None], unit), 1)
            tops = higher
        top = tl.max(tops, 0)
        total = tl.sum(totals * exp(tops - _highest(top, KIND), unit), 0)
        if not WRITE:
            at = part + (row * splits + tl.program_id(1)) * 2
            tl.store(at, top)
            tl.store(at + 1, total)
    else:
        each = tl.arange(0, SPLITS)
        at = part + (row * splits + each) * 2
        tops = tl.load(at, each < splits, other=lowest)
        totals = tl.load(at + 1, each < splits, other=0.0)
        top = tl.max(tops, 0)
        total = tl.sum(totals * exp(tops - _highest(top, KIND), unit), 0)
    if WRITE:
        top = _highest(top, KIND)
        total = _total(total, top, unit, KIND)
        last = begin + tl.cdiv(end - begin, CHUNK) * CHUNK - CHUNK
        for back in tl.range(0, end - begin, CHUNK, num_stages=4):  # from where the first read ended, which the cache still holds
            col = last - back + tl.arange(0, CHUNK)
            s = _scores(
                x, mask, row, col, col < end, x_stride, scale, mask_size1, mask_size2, mask0, mask1, mask2, mask_col, queries, cols,
                MASK, CAUSAL,
            )  # fmt: skip
            tl.store(y + row * cols + col, _finish(s, top, total, unit, KIND).to(y.dtype.element_ty), col < end)


def forward(kind: str, x: Tensor, mask: Tensor | None, temperature: float, causal: bool) -> Tensor:
    """Along the last dimension of `x`; `mask` has the shape of `x`, its strides may be zero."""
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if not x.numel():
        return y
    queries = x.shape[-2] if causal else 1
    how, sizes, strides, mask_col = "none", [1, 1, 1], [0, 0, 0], 0
    if mask is not None:
        how = "keep" if mask.dtype == torch.bool else "add"
        if mask.stride(-1) * mask.shape[-1] >= 2**31:  # the kernels' columns have 32 bits
            mask = mask.contiguous()
        mask, sizes, strides = layout.broadcast_strides(mask.view(torch.uint8) if how == "keep" else mask)
        mask_col = mask.stride(-1)
    x = layout.dense(x)
    rows, cols = x.shape
    shared = (cols, x.stride(0), 1 / temperature, *sizes[1:], *strides, mask_col, queries)
    constants = {"KIND": kind, "MASK": how, "CAUSAL": causal}
    if programs := layout.cluster(cols):
        height, width, warps = layout.tile(cols)
        options = {"HEIGHT": height, "WIDTH": width, "num_warps": max(warps // programs, 1), "num_ctas": programs}
        _forward_rows[(triton.cdiv(rows, height),)](x, mask, y, rows, *shared, **constants, **options)
        count(kind, "triton", "rows" if programs == 1 else "cluster")
        return y
    loaded = [x] if mask is None else [x, mask]
    chunk = layout.chunk(*loaded)
    splits, span = layout.spans(rows, cols, chunk)
    part = torch.empty(rows, splits, 2, dtype=torch.float32, device=x.device)
    constants |= {"SPLITS": layout.power_of_two(splits), "CHUNK": chunk, "GROUP": layout.group(*loaded), "num_warps": layout.WARPS}
    for read, write in [(True, True)] if splits == 1 else [(True, False), (False, True)]:
        _forward_wide[(rows, splits)](x, mask, y, part, *shared, span, READ=read, WRITE=write, **constants)
    count(kind, "triton", "loop" if splits == 1 else "split")
    return y
