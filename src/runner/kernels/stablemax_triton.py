"""Kernels of stablemax: a sum over the row, then a map; a row that fits in one program is read once.

A wider one is read twice, by one program where the rows fill the GPU, else by several that leave partial sums for a second launch.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import layout
from .dispatch import count


@triton.jit
def _load(x, grad, x_at, grad_at, inside, BACKWARD: tl.constexpr):
    """s(x), the gradient, and the summand of the row's reduction."""
    v = tl.load(x + x_at, inside, other=float("-inf")).to(tl.float32)
    above = 1 + tl.abs(v)
    root = tl.rsqrt(above)  # its square is a reciprocal at an eighth of the instructions of a division
    s = tl.where(v < 0, root * root, above)
    if BACKWARD:
        g = tl.load(grad + grad_at, inside, other=0.0).to(tl.float32)
        return s, g, s * g
    return s, s, s


@triton.jit
def _finish(s, g, found, total, BACKWARD: tl.constexpr):
    """`found` is what the row's reduction gave: the sum of s forward, and of s times the gradient backward."""
    share = 1 / tl.where(total == 0, 1.0, total)
    if BACKWARD:
        low = tl.minimum(s, 1.0)  # whose square is the derivative of s
        return (g - found * share) * (low * low * share)
    return s * share


@triton.jit
def _rows(x, grad, out, totals, rows, cols, x_stride, grad_stride, BACKWARD: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr):
    row = (tl.program_id(0) * HEIGHT + tl.arange(0, HEIGHT)).to(tl.int64)[:, None]
    col = tl.arange(0, WIDTH)[None, :]
    inside = (row < rows) & (col < cols)
    s, g, part = _load(x, grad, row * x_stride + col, row * grad_stride + col, inside, BACKWARD)
    found = tl.sum(part, 1)[:, None]
    total = found
    if BACKWARD:
        total = tl.load(totals + row, row < rows, other=1.0)
    else:
        tl.store(totals + row, found, row < rows)
    tl.store(out + row * cols + col, _finish(s, g, found, total, BACKWARD).to(out.dtype.element_ty), inside)


@triton.jit
def _wide(
    x, grad, out, totals, parts, cols, x_stride, grad_stride, span,
    BACKWARD: tl.constexpr, READ: tl.constexpr, WRITE: tl.constexpr, SPLITS: tl.constexpr, CHUNK: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    begin = tl.program_id(1) * span
    end = tl.minimum(begin + span, cols)
    splits = tl.num_programs(1)
    if READ:
        sums = tl.zeros([CHUNK // GROUP], tl.float32)  # a thread keeps one for each group of columns, which it loads at once
        for start in tl.range(begin, end, CHUNK, num_stages=4):
            col = start + tl.arange(0, CHUNK)
            s, g, part = _load(x, grad, row * x_stride + col, row * grad_stride + col, col < end, BACKWARD)
            sums += tl.sum(part.reshape(CHUNK // GROUP, GROUP), 1)
        found = tl.sum(sums)
        if not WRITE:
            tl.store(parts + row * splits + tl.program_id(1), found)
    else:
        each = tl.arange(0, SPLITS)
        found = tl.sum(tl.load(parts + row * splits + each, each < splits, other=0.0))
    if WRITE:
        total = found
        if BACKWARD:
            total = tl.load(totals + row)
        else:
            tl.store(totals + row, found)
        last = begin + tl.cdiv(end - begin, CHUNK) * CHUNK - CHUNK
        for back in tl.range(0, end - begin, CHUNK, num_stages=4):  # from where the first read ended, which the cache still holds
            col = last - back + tl.arange(0, CHUNK)
            s, g, part = _load(x, grad, row * x_stride + col, row * grad_stride + col, col < end, BACKWARD)
            tl.store(out + row * cols + col, _finish(s, g, found, total, BACKWARD).to(out.dtype.element_ty), col < end)


def _launch(op: str, x: Tensor, grad: Tensor, total: Tensor, backward: bool) -> Tensor:
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if not x.numel():
        return out
    x, grad = layout.dense(x), layout.dense(grad)
    rows, cols = x.shape
    if cols <= layout.WIDEST // 2:  # wider ones would spill registers in the backward
        height, width, warps = layout.tile(cols)
        _rows[(triton.cdiv(rows, height),)](
            x, grad, out, total, rows, cols, x.stride(0), grad.stride(0), BACKWARD=backward, HEIGHT=height, WIDTH=width, num_warps=warps
        )
        count(op, "triton", "rows")
        return out
    chunk = layout.chunk(x, grad)
    splits, span = layout.spans(rows, cols, chunk)
    parts = torch.empty(rows, splits, dtype=torch.float32, device=x.device)
    constants = {"BACKWARD": backward, "SPLITS": layout.power_of_two(splits), "CHUNK": chunk, "GROUP": layout.group(x), "num_warps": layout.WARPS}
    for read, write in [(True, True)] if splits == 1 else [(True, False), (False, True)]:
        _wide[(rows, splits)](x, grad, out, total, parts, cols, x.stride(0), grad.stride(0), span, READ=read, WRITE=write, **constants)
    count(op, "triton", "loop" if splits == 1 else "split")
    return out


def forward(x: Tensor) -> tuple[Tensor, Tensor]:
    """Along the last dimension of `x`: the output and each row's sum."""
    total = torch.zeros(x.shape[:-1], dtype=torch.float32, device=x.device)
    return _launch("stablemax", x, x, total, False), total


def backward(grad: Tensor, x: Tensor, total: Tensor) -> Tensor:
    return _launch("stablemax_backward", x, grad, total, True)
