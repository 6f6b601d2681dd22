"""Kernel that packs 2:4 weights: one read of weights and mask, a group a lane; four groups make a word of metadata, stored where it belongs."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .dispatch import count

BLOCK = 1024  # groups


@triton.jit
def _pack(w, mask, values, meta, groups, rows, words, GROUP: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < groups  # a product of rows and words here would have 32 bits
    bits = tl.load(mask + at, inside, other=0)  # the booleans of a group as the bytes of one number
    if GROUP == 2:
        second = (bits >> 8) & 1
        tl.store(values + at, tl.load(w + 2 * at + second, inside), inside)
        code = 10 * second + 4
    else:
        low = (1 - (bits & 1)) * (2 - ((bits >> 8) & 1))
        high = 3 - (1 - ((bits >> 24) & 1)) * (2 - ((bits >> 16) & 1))
        tl.store(values + 2 * at, tl.load(w + 4 * at + low, inside), inside)
        tl.store(values + 2 * at + 1, tl.load(w + 4 * at + high, inside), inside)
        code = low + 4 * high
    code = tl.reshape(code.to(tl.int32), [BLOCK // 4, 4]) << (4 * tl.arange(0, 4)[None, :])
    at = tl.program_id(0).to(tl.int64) * (BLOCK // 4) + tl.arange(0, BLOCK // 4)
    row, col = at // words, at % words
    row = row // 32 * 32 + row % 8 * 4 + row % 32 // 8
    shift = col % 2 - row % 2  # across the diagonal of a block of 2 x 2
    row, col = row + shift, col - shift
    tl.store(meta + (col // 2 * rows + row) * 2 + col % 2, tl.sum(code, 1).to(tl.int16), at < groups // 4)


def pack(w: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Values and metadata of a weight whose shape and mask fit."""
    rows, cols = w.shape
    group = 2 if w.dtype == torch.float32 else 4
    words = cols // (4 * group)
    values = torch.empty(rows, cols // 2, dtype=w.dtype, device=w.device)
    meta = torch.empty(rows, words, dtype=torch.int16, device=w.device)
    mask = mask.contiguous()
    mask = mask.clone() if mask.storage_offset() % group else mask  # a number begins where its size divides the place
    bits = mask.view(torch.int16 if group == 2 else torch.int32)
    groups = 4 * rows * words
    _pack[(triton.cdiv(groups, BLOCK),)](w.contiguous(), bits, values, meta, groups, rows, words, GROUP=group, BLOCK=BLOCK)
    count("semi_structured", "triton", "groups")
    return values, meta
