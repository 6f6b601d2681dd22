"""Kernel of the softmax over the k largest entries: the k-th key of a row is found bit by bit, by counting, whatever k is."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import layout
from .dispatch import count
from .exponential_triton import exp, finite
from .topk_softmax_triton import number

# low bits of a float32 that are the same for all numbers of one sign that come from this type
IDLE = {torch.float32: 0, torch.float16: 13, torch.bfloat16: 16}


@triton.jit
def _bound(key, IDLE: tl.constexpr):
    """The least number whose `ordered` integer, less its idle bits, is `key`; NaN beyond the infinities, which no number reaches."""
    return number((key << IDLE) | tl.where(key < 0, (1 << IDLE) - 1, 0))


@triton.jit
def _forward(x, y, rows, cols, x_stride, scale, k, IDLE: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr):
    row = (tl.program_id(0) * HEIGHT + tl.arange(0, HEIGHT)).to(tl.int64)[:, None]
    col = tl.arange(0, WIDTH)[None, :]
    inside = (row < rows) & (col < cols)
    s = tl.load(x + row * x_stride + col, inside, other=float("-inf")).to(tl.float32)
    held = tl.sum((s >= 0).to(tl.int32), 1)[:, None]  # how many entries reach the bound of `least`
    least = tl.where(held >= k, 0, -(1 << (31 - IDLE)))
    held = tl.where(held >= k, held, WIDTH + 1)
    bit = 1 << (30 - IDLE)
    while (bit > 0) & (tl.max(held) > k):
        # counted as floats, which are exact here and cheaper to add
        reach = tl.sum((s >= _bound(least + bit, IDLE)).to(tl.float32), 1)[:, None].to(tl.int32)
        least = tl.where(reach >= k, least + bit, least)
        held = tl.where(reach >= k, reach, held)
        bit = bit >> 1
    bound = _bound(least, IDLE)
    bound = tl.where(bound == bound, bound, float("-inf"))  # fewer than k entries are finite
    last = tl.full([HEIGHT, 1], WIDTH, tl.int32)
    if tl.max(tl.where(bound > float("-inf"), held, 0)) > k:  # ties: the first ones stay, those before `last`
        short = k - tl.sum((s > bound).to(tl.int32), 1)[:, None]
        last = tl.zeros_like(last)
        bit = WIDTH
        while bit > 0:
            few = tl.sum(((s == bound) & (col < last + bit)).to(tl.int32), 1)[:, None] <= short
            last = tl.where(few, last + bit, last)
            bit = bit >> 1
    top = finite(tl.max(s, 1))[:, None]
    e = exp(s - top, scale)
    e = tl.where((s < bound) | ((s == bound) & (col >= last)), 0.0, e)  # NaN stays
    total = tl.sum(e, 1)[:, None]
    tl.store(y + row * cols + col, (e * (1 / tl.where(total == 0, 1.0, total))).to(y.dtype.element_ty), inside)


def forward(x: Tensor, k: int, temperature: float) -> Tensor:
    """Along the last dimension of `x`."""
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if x.numel():
        x = layout.dense(x)
        height, width, warps = layout.tile(x.shape[1])
        grid = (triton.cdiv(len(x), height),)
        _forward[grid](x, y, *x.shape, x.stride(0), 1 / temperature, k, IDLE=IDLE[x.dtype], HEIGHT=height, WIDTH=width, num_warps=warps)
        count("sparse_topk_softmax", "triton", "rows")
    return y
