"""Selection by histogram: the bits of |w| as a float32 order like the number, so that a few histograms of their digits find the k-th.

Digits of 8 bits and a last one of 7: each pass counts the digit among the keys that agree with the digits found before, and a program of
one chooses the next. More bits a pass would cost more than they save: a warp counts each key for every 32 bins. Half-precision keys have
fewer digits. Only integers are added, so that the result does not depend on the order.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import layout
from .dispatch import count

BLOCK = 4096
COUNTED = 8192  # keys a program counts at a time, several for each bin
DIGITS = {torch.bfloat16: 2, torch.float16: 3, torch.float32: 4}


def digits(tensors: Sequence[Tensor]) -> list[tuple[int, int]]:
    """How far each digit of the keys is to be shifted and how many bits it has, from the first to the last that is not always zero."""
    return [(23, 8), (15, 8), (7, 8), (0, 7)][: max(DIGITS[x.dtype] for x in tensors)]


@triton.jit
def magnitude(x):
    """Integers that order like |x|. All NaN are one, whose low bits are 0: a GPU that widens half precision sets them all."""
    return tl.minimum(x.to(tl.float32).to(tl.int32, bitcast=True) & 0x7FFFFFFF, 0x7FC00000)


@triton.jit
def _keys(w, at, n):
    return magnitude(tl.load(w + at, at < n, other=0.0))


@triton.jit
def _histogram(w, state, bins, n, SHIFT: tl.constexpr, BITS: tl.constexpr, BLOCK: tl.constexpr):
    """Add the counts of this digit, among the keys whose higher digits are those of state[0]."""
    prefix = tl.load(state).to(tl.int32)
    counts = tl.zeros([1 << BITS], tl.int32)
    for start in range(tl.program_id(0).to(tl.int64) * BLOCK, n, tl.num_programs(0).to(tl.int64) * BLOCK):
        at = start + tl.arange(0, BLOCK)
        key = _keys(w, at, n)
        live = (at < n) & (key >> SHIFT >> BITS == prefix >> SHIFT >> BITS)
        counts += tl.histogram((key >> SHIFT) & ((1 << BITS) - 1), 1 << BITS, mask=live)
    tl.atomic_add(bins + tl.arange(0, 1 << BITS), counts.to(tl.int64), counts > 0)


@triton.jit
def _choose(state, bins, SHIFT: tl.constexpr, BITS: tl.constexpr):
    """Extend the prefix by the digit in which the k-th key falls. State: prefix, keys still to take at it, keys that equal it."""
    digit = tl.arange(0, 1 << BITS)
    counts = tl.load(bins + digit)
    need = tl.load(state + 1)
    above = tl.sum(counts, 0) - tl.cumsum(counts, 0)
    here = (above < need) & (above + counts >= need)
    tl.store(state, tl.load(state) + tl.sum(tl.where(here, digit.to(tl.int64) << SHIFT, 0), 0))
    tl.store(state + 1, need - tl.sum(tl.where(here, above, 0), 0))
    tl.store(state + 2, tl.sum(tl.where(here, counts, 0), 0))


@triton.jit
def _count_ties(w, state, ties, n, BLOCK: tl.constexpr):
    """Keys in each block that equal the k-th; all are kept unless there are more than are still to take."""
    found = 0
    if tl.load(state + 1) < tl.load(state + 2):
        at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        found = tl.sum(((at < n) & (_keys(w, at, n) == tl.load(state).to(tl.int32))).to(tl.int32), 0)
    tl.store(ties + tl.program_id(0), found)


@triton.jit
def _mask(w, state, ties, mask, n, BLOCK: tl.constexpr):
    """Keys above the k-th, and the first of those that equal it. `ties` holds how many of them stand up to the end of each block."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    key = _keys(w, at, n)
    least = tl.load(state).to(tl.int32)
    need = tl.load(state + 1)
    keep = key >= least
    if need < tl.load(state + 2):
        tied = ((key == least) & (at < n)).to(tl.int32)
        rank = tl.load(ties + tl.program_id(0)) - tl.sum(tied, 0) + tl.cumsum(tied, 0)
        keep = (key > least) | ((tied != 0) & (rank <= need))
    tl.store(mask + at, keep.to(tl.int8), at < n)


def forward(tensors: Sequence[Tensor], k: int) -> list[Tensor]:
    """Masks of the k largest magnitudes of all tensors together, 0 < k < entries."""
    device = tensors[0].device
    masks = [torch.empty(x.shape, dtype=torch.bool, device=device) for x in tensors]
    filled = [(x.contiguous().view(-1), m.view(-1).view(torch.int8)) for x, m in zip(tensors, masks, strict=True) if x.numel()]
    state = torch.zeros(3, dtype=torch.int64, device=device)
    state[1].fill_(k)  # not copied from the host, which a graph could not capture
    for shift, bits in digits([x for x, _ in filled]):
        bins = torch.zeros(1 << bits, dtype=torch.int64, device=device)
        for x, _ in filled:
            grid = (min(triton.cdiv(x.numel(), COUNTED), layout.PROGRAMS),)
            _histogram[grid](x, state, bins, x.numel(), SHIFT=shift, BITS=bits, BLOCK=COUNTED, num_warps=8)
        _choose[(1,)](state, bins, SHIFT=shift, BITS=bits)
    blocks = [triton.cdiv(x.numel(), BLOCK) for x, _ in filled]
    ties = torch.empty(sum(blocks), dtype=torch.int64, device=device)
    for (x, _), part in zip(filled, ties.split(blocks), strict=True):
        _count_ties[(part.numel(),)](x, state, part, x.numel(), BLOCK=BLOCK)
    ties = ties.cumsum(0)
    for (x, mask), part in zip(filled, ties.split(blocks), strict=True):
        _mask[(part.numel(),)](x, state, part, mask, x.numel(), BLOCK=BLOCK)
    count("topk_mask", "triton", "histogram")
    return masks
