"""Kernels of N:M sparsity: one read of the weights; ranks within a group come from comparing every pair."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import layout
from .dispatch import count

BLOCK = 4096


@triton.jit
def _keep(value, lane, N: tl.constexpr, M: tl.constexpr, GROUPS: tl.constexpr, WIDTH: tl.constexpr):
    """Which entries of each row of (GROUPS, WIDTH) are among its N largest; the first M count."""
    key = value.to(tl.float32).to(tl.int32, bitcast=True) & 0x7FFFFFFF
    key = tl.where(lane < M, key, -1)
    rank = tl.zeros([GROUPS, WIDTH], tl.int32)
    for j in tl.static_range(M):
        rival = tl.max(tl.where(lane == j, key, -1), 1)[:, None]
        rank += (rival > key - (j < lane).to(tl.int32)).to(tl.int32)  # an earlier rival also wins a tie
    return rank < N


@triton.jit
def _strided_groups(w, mask, pruned, groups, inner, N: tl.constexpr, M: tl.constexpr, PRUNE: tl.constexpr, GROUPS: tl.constexpr, WIDTH: tl.constexpr):
    """A group is M entries `inner` apart; groups are numbered with the dimensions inside theirs running fastest."""
    group = tl.program_id(0).to(tl.int64) * GROUPS + tl.arange(0, GROUPS)[:, None]
    lane = tl.arange(0, WIDTH)[None, :]
    at = (group // inner * M + lane) * inner + group % inner  # of 64 bits throughout: a group may span 2^31 entries
    inside = (group < groups) & (lane < M)
    value = tl.load(w + at, inside, other=0.0)
    keep = _keep(value, lane, N, M, GROUPS, WIDTH)
    tl.store(mask + at, keep.to(tl.int8), inside)
    if PRUNE:
        tl.store(pruned + at, tl.where(keep, value, 0.0).to(value.dtype), inside)


@triton.jit
def _dense_groups(w, mask, pruned, n, N: tl.constexpr, M: tl.constexpr, PRUNE: tl.constexpr, GROUPS: tl.constexpr):
    """Groups of a power of two that lie side by side: loaded flat, so that accesses are as wide as they can be."""
    at = tl.program_id(0).to(tl.int64) * (GROUPS * M) + tl.arange(0, GROUPS * M)
    value = tl.load(w + at, at < n, other=0.0)
    keep = tl.reshape(_keep(tl.reshape(value, [GROUPS, M]), tl.arange(0, M)[None, :], N, M, GROUPS, M), [GROUPS * M])
    tl.store(mask + at, keep.to(tl.int8), at < n)
    if PRUNE:
        tl.store(pruned + at, tl.where(keep, value, 0.0).to(value.dtype), at < n)


@triton.jit
def _pull(grad, w, mask, out, n, decay, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    g = tl.load(grad + at, at < n, other=0.0).to(tl.float32)
    v = tl.load(w + at, at < n, other=0.0).to(tl.float32)
    keep = tl.load(mask + at, at < n, other=1) != 0
    tl.store(out + at, tl.where(keep, g, g + decay * v).to(out.dtype.element_ty), at < n)


def forward(w: Tensor, n: int, m: int, dim: int, prune: bool) -> tuple[Tensor, Tensor]:
    mask = torch.empty(w.shape, dtype=torch.bool, device=w.device)
    pruned = torch.empty(w.shape if prune else (0,), dtype=w.dtype, device=w.device)
    if w.numel():
        w, inner, width = w.contiguous(), w.shape[dim + 1 :].numel(), layout.power_of_two(m)
        height = (BLOCK if m <= 8 else BLOCK // 4) // width
        grid = (triton.cdiv(w.numel() // m, height),)
        if inner == 1 and width == m:
            _dense_groups[grid](w, mask.view(torch.int8), pruned, w.numel(), N=n, M=m, PRUNE=prune, GROUPS=height)
            count("nm_mask", "triton", "dense")
        else:
            groups = w.numel() // m
            _strided_groups[grid](w, mask.view(torch.int8), pruned, groups, inner, N=n, M=m, PRUNE=prune, GROUPS=height, WIDTH=width)
            count("nm_mask", "triton", "strided")
    return pruned, mask


def backward(grad: Tensor, w: Tensor, mask: Tensor, decay: float) -> Tensor:
    out = torch.empty(w.shape, dtype=w.dtype, device=w.device)
    if w.numel():
        _pull[(triton.cdiv(w.numel(), BLOCK),)](grad.contiguous(), w.contiguous(), mask.view(torch.int8), out, w.numel(), decay, BLOCK=BLOCK)
        count("sr_ste_backward", "triton", "blocks")
    return out
