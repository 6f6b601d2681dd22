"""Drop and grow by histograms, as in topk_mask_triton: the digits of |w| give the smallest weight that stays, those of |g| the smallest that grows.

How many that are is known on the device alone: the first histogram also counts the connections. Layers that do not compete are groups,
each with a state of its own: the digits found so far, how many keys are still to take at them, how many keys equal them, and k.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import layout
from .dispatch import count
from .topk_mask_triton import COUNTED, digits, magnitude

BLOCK = 4096
STATE = tl.constexpr(4)


@triton.jit
def _keys(x, mask, at, n, ACTIVE: tl.constexpr):
    """Bits of |x|, and which of them compete: those in the mask, or those outside."""
    key = magnitude(tl.load(x + at, at < n, other=0.0))
    return key, (at < n) & ((tl.load(mask + at, at < n, other=0) != 0) == ACTIVE)


@triton.jit
def _histogram(x, mask, state, bins, n, ACTIVE: tl.constexpr, SHIFT: tl.constexpr, BITS: tl.constexpr, BLOCK: tl.constexpr):
    """Add the counts of this digit, among the competing keys whose higher digits are those of state[0]."""
    prefix = tl.load(state).to(tl.int32)
    counts = tl.zeros([1 << BITS], tl.int32)
    for start in range(tl.program_id(0).to(tl.int64) * BLOCK, n, tl.num_programs(0).to(tl.int64) * BLOCK):
        key, live = _keys(x, mask, start + tl.arange(0, BLOCK), n, ACTIVE)
        live &= key >> SHIFT >> BITS == prefix >> SHIFT >> BITS
        counts += tl.histogram((key >> SHIFT) & ((1 << BITS) - 1), 1 << BITS, mask=live)
    tl.atomic_add(bins + tl.arange(0, 1 << BITS), counts.to(tl.int64), counts > 0)


@triton.jit
def _choose(state, bins, fraction, ACTIVE: tl.constexpr, FIRST: tl.constexpr, SHIFT: tl.constexpr, BITS: tl.constexpr):
    """Extend each group's prefix by the digit in which the last key that is taken falls."""
    state += tl.program_id(0) * STATE
    digit = tl.arange(0, 1 << BITS)
    counts = tl.load(bins + (tl.program_id(0) << BITS) + digit)
    if not FIRST:
        prefix = tl.load(state)
        need = tl.load(state + 1)
    elif ACTIVE:
        prefix = 0
        need = tl.sum(counts, 0)
        k = (tl.load(fraction) * need.to(tl.float64)).to(tl.int64)
        tl.store(state + 3, k)
        need -= k
    else:
        prefix = 0
        need = tl.load(state + 3)
    above = tl.sum(counts, 0) - tl.cumsum(counts, 0)
    here = (above < need) & (above + counts >= need)
    tl.store(state, prefix + tl.sum(tl.where(here, digit.to(tl.int64) << SHIFT, 0), 0))
    tl.store(state + 1, need - tl.sum(tl.where(here, above, 0), 0))
    tl.store(state + 2, tl.sum(tl.where(here, counts, 0), 0))


@triton.jit
def _count_ties(x, mask, state, ties, n, ACTIVE: tl.constexpr, BLOCK: tl.constexpr):
    """Competing keys in each block that equal the last; all are taken unless there are more than are still to take."""
    found = 0
    if tl.load(state + 1) < tl.load(state + 2):
        key, live = _keys(x, mask, tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK), n, ACTIVE)
        found = tl.sum((live & (key == tl.load(state).to(tl.int32))).to(tl.int32), 0)
    tl.store(ties + tl.program_id(0), found)


@triton.jit
def _taken(x, mask, state, ties, at, n, ACTIVE: tl.constexpr):
    """Which keys are taken. `ties` holds how many that equal the last stand up to the end of each block."""
    key, live = _keys(x, mask, at, n, ACTIVE)
    least = tl.load(state).to(tl.int32)
    need = tl.load(state + 1)
    take = live & (key >= least) & (need > 0)
    if need < tl.load(state + 2):
        tied = (live & (key == least)).to(tl.int32)
        rank = tl.load(ties + tl.program_id(0)) - tl.sum(tied, 0) + tl.cumsum(tied, 0)
        take = take & ((key > least) | (rank <= need))
    return take


@triton.jit
def _drop(w, mask, state, ties, kept, n, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    tl.store(kept + at, _taken(w, mask, state, ties, at, n, True).to(tl.int8), at < n)


@triton.jit
def _grow(score, kept, state, ties, w, mask, new, n, BLOCK: tl.constexpr):
    """Also the weights: those that neither stay nor come back are zero."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    now = _taken(score, kept, state, ties, at, n, False) | (tl.load(kept + at, at < n, other=0) != 0)
    before = tl.load(mask + at, at < n, other=0) != 0
    value = tl.load(w + at, at < n, other=0.0)
    tl.store(w + at, tl.where(now & before, value, 0.0).to(value.dtype), at < n)
    tl.store(mask + at, tl.where(now, 1.0, 0.0).to(mask.dtype.element_ty), at < n)  # the interpreter makes bits of bfloat16 from a boolean
    tl.store(new + at, (now & ~before).to(tl.int8), at < n)


def _select(active: bool, tensors: list[Tensor], masks: list[Tensor], state: Tensor, groups: list[int], fraction: Tensor) -> list[Tensor]:
    """Fill the state of every group; the ties within it that stand up to the end of each block of each tensor."""
    for i, (shift, bits) in enumerate(digits(tensors)):
        bins = torch.zeros(len(state), 1 << bits, dtype=torch.int64, device=state.device)
        for x, mask, group in zip(tensors, masks, groups, strict=True):
            grid = (min(triton.cdiv(x.numel(), COUNTED), layout.PROGRAMS),)
            options = {"ACTIVE": active, "SHIFT": shift, "BITS": bits, "BLOCK": COUNTED, "num_warps": 8}
            _histogram[grid](x, mask, state[group], bins[group], x.numel(), **options)
        _choose[(len(state),)](state, bins, fraction, ACTIVE=active, FIRST=i == 0, SHIFT=shift, BITS=bits)
    blocks = [triton.cdiv(x.numel(), BLOCK) for x in tensors]
    ties = torch.empty(sum(blocks), dtype=torch.int64, device=state.device)
    parts = ties.split(blocks)
    for x, mask, group, part in zip(tensors, masks, groups, parts, strict=True):
        _count_ties[(part.numel(),)](x, mask, state[group], part, x.numel(), ACTIVE=active, BLOCK=BLOCK)
    return ties.cumsum(0).split(blocks) if len(state) == 1 else [part.cumsum(0) for part in parts]


def update(weights: Sequence[Tensor], masks: Sequence[Tensor], new: Sequence[Tensor], scores: Sequence[Tensor], fraction: float, together: bool) -> None:
    """In place on weights and masks; `new`, row-major, is filled with which connections are new."""
    filled = [i for i, w in enumerate(weights) if w.numel()]
    if not filled:
        return
    w, m, s = ([given[i].contiguous() for i in filled] for given in (weights, masks, scores))
    ones = [x.view(torch.int8) if x.dtype == torch.bool else x for x in m]
    kept = [torch.empty(x.shape, dtype=torch.int8, device=x.device) for x in m]
    groups = [0 if together else i for i in range(len(filled))]
    state = torch.zeros(groups[-1] + 1, STATE.value, dtype=torch.int64, device=w[0].device)
    share = torch.full((1,), fraction, dtype=torch.float64, device=w[0].device)  # a scalar would arrive in float32
    for x, one, group, tie, keep in zip(w, ones, groups, _select(True, w, ones, state, groups, share), kept, strict=True):
        _drop[(tie.numel(),)](x, one, state[group], tie, keep, x.numel(), BLOCK=BLOCK)
    for i, (group, tie) in enumerate(zip(groups, _select(False, s, kept, state, groups, share), strict=True)):
        came = new[filled[i]].view(torch.int8)
        _grow[(tie.numel(),)](s[i], kept[i], state[group], tie, w[i], ones[i], came, w[i].numel(), BLOCK=BLOCK)
    for i, x, mask in zip(filled, w, m, strict=True):
        for dense, given in ((x, weights[i]), (mask, masks[i])):
            if dense.data_ptr() != given.data_ptr():
                given.copy_(dense)
    count("drop_grow", "triton", "histogram")
