"""Kernel of the softmax over the k largest entries: the k-th key of a row is found bit by bit, by counting, whatever k is."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import layout
from .dispatch import count
from .topk_softmax_triton import number, ordered

# low bits of a float32 that are the same for all numbers of one sign that come from this type
IDLE = {torch.float32: 0, torch.float16: 13, torch.bfloat16: 16}


@triton.jit
def _forward(x, y, rows, cols, x_stride, scale, k, IDLE: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr):
    row = (tl.program_id(0) * HEIGHT + tl.arange(0, HEIGHT)).to(tl.int64)[:, None]
    col = tl.arange(0, WIDTH)[None, :]
    inside = (row < rows) & (col < cols)
    s = tl.load(x + row * x_stride + col, inside, other=float("-inf")).to(tl.float32)
    key = tl.where(inside, ordered(s) >> IDLE, -(1 << (31 - IDLE)))  # padding below all
    least = tl.where(tl.sum((key >= 0).to(tl.int32), 1)[:, None] >= k, 0, -(1 << (31 - IDLE)))
    bit = 1 << (30 - IDLE)
    for _ in range(31 - IDLE):
        enough = tl.sum((key >= least + bit).to(tl.int32), 1)[:, None] >= k
        least = tl.where(enough, least + bit, least)
        bit = bit >> 1
    last = tl.full([HEIGHT, 1], WIDTH, tl.int32)
    if tl.max(tl.sum((key >= least).to(tl.int32), 1), 0) > k:  # ties: the first ones stay, those before `last`
        short = k - tl.sum((key > least).to(tl.int32), 1)[:, None]
        last = tl.zeros_like(last)
        bit = WIDTH
        while bit > 0:
            few = tl.sum(((key == least) & (col < last + bit)).to(tl.int32), 1)[:, None] <= short
            last = tl.where(few, last + bit, last)
            bit = bit >> 1
    # the logits again, from their keys, so that registers hold one of the two at a time
    s = tl.where(inside, number((key << IDLE) | tl.where(key < 0, (1 << IDLE) - 1, 0)), float("-inf"))
    top = tl.max(s, 1)[:, None]
    top = tl.where(top == float("-inf"), 0.0, top)
    e = tl.where((key > least) | ((key == least) & (col < last)), tl.exp((s - top) * scale), 0.0)
    total = tl.sum(e, 1)[:, None]
    tl.store(y + row * cols + col, (e / tl.where(total == 0, 1.0, total)).to(y.dtype.element_ty), inside)


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
