"""Kernels of the cross entropy: one read of the logits forward, one read and one write backward."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import layout
from .dispatch import count
from .exponential_triton import exp, finite


@triton.jit
def _shift(masses, tops, new):
    """What the dot products gain when scores count from `new` and no longer from `tops`; nothing without mass, even if one is NaN."""
    return tl.where(masses == 0, 0.0, masses * (finite(tops) - new))


@triton.jit
def _target(target, row, size1, size2, stride0, stride1, stride2):
    """Where a row's class index or its first probability lies."""
    return target + row // size2 // size1 * stride0 + row // size2 % size1 * stride1 + row % size2 * stride2


@triton.jit
def _label(target, weight, row, inside_row, cols, ignore_index, size1, size2, stride0, stride1, stride2, WEIGHTED: tl.constexpr):
    """A row's class and its weight: 0 where ignored, NaN where the index is out of range (and the class is then the first)."""
    label = tl.load(_target(target, row, size1, size2, stride0, stride1, stride2), inside_row, other=0)
    known = (label >= 0) & (label < cols)
    count = tl.where(label == ignore_index, 0.0, tl.where(known, 1.0, float("nan")))
    label = tl.where(known, label, 0).to(tl.int32)
    if WEIGHTED:
        count *= tl.where(label == ignore_index, 1.0, tl.load(weight + label, inside_row, other=0.0).to(tl.float32))
    return label, count


@triton.jit
def _coefficients(
    target, weight, row, col, inside, inside_row, cols, smoothing, ignore_index, size1, size2, stride0, stride1, stride2, target_col,
    HARD: tl.constexpr, WEIGHTED: tl.constexpr,
):  # fmt: skip
    """w q for a tile. A class index out of range gives NaN."""
    if HARD:
        label, count = _label(target, weight, row, inside_row, cols, ignore_index, size1, size2, stride0, stride1, stride2, False)
        q = tl.where(col == label, (1 - smoothing + smoothing / cols) * count, smoothing / cols * count)
    else:
        at = _target(target, row, size1, size2, stride0, stride1, stride2) + col.to(tl.int64) * target_col
        q = tl.load(at, inside, other=0.0).to(tl.float32) * (1 - smoothing) + smoothing / cols
    q = tl.where(col < cols, q, 0.0)
    if WEIGHTED:
        q *= tl.load(weight + col, col < cols, other=0.0).to(tl.float32)
    return q


@triton.jit
def _slope(s, q, log_z, mass):
    """0 where nothing counts, even if a logit is NaN."""
    nothing = (s == float("-inf")) | ((mass == 0) & (q == 0))
    return tl.where(nothing, 0.0, exp(s - log_z) * mass - q)


@triton.jit
def _loss_rows(
    x, target, weight, loss, log_z, mass, grad, rows, cols, x_stride, smoothing, ignore_index,
    size1, size2, stride0, stride1, stride2, target_col,
    HARD: tl.constexpr, ONE: tl.constexpr, WEIGHTED: tl.constexpr, GRADIENT: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    row = (tl.program_id(0) * HEIGHT + tl.arange(0, HEIGHT)).to(tl.int64)[:, None]
    col = tl.arange(0, WIDTH)[None, :]
    inside = (row < rows) & (col < cols)
    s = tl.load(x + row * x_stride + col, inside, other=float("-inf")).to(tl.float32)
    top = finite(tl.max(s, 1))[:, None]
    total = tl.sum(exp(s - top), 1)[:, None]
    log_total = tl.log(tl.where(total == 0, 1.0, total))
    if ONE:
        label, count = _label(target, weight, row, row < rows, cols, ignore_index, size1, size2, stride0, stride1, stride2, WEIGHTED)
        score = tl.load(x + row * x_stride + label, row < rows, other=0.0).to(tl.float32)
        whole = tl.where(score == float("-inf"), 0.0, count)
        dot = tl.where(count == 0, 0.0, count * (score - top))
    else:
        q = _coefficients(
            target, weight, row, col, inside, row < rows, cols, smoothing, ignore_index, size1, size2, stride0, stride1, stride2, target_col,
            HARD, WEIGHTED,
        )  # fmt: skip
        whole = tl.sum(tl.where(s == float("-inf"), 0.0, q), 1)[:, None]
        dot = tl.sum(tl.where(q == 0, 0.0, q * (s - top)), 1)[:, None]
    tl.store(loss + row, tl.where(whole == 0, 0.0, log_total * whole) - dot, row < rows)
    tl.store(log_z + row, top + log_total, row < rows)
    tl.store(mass + row, whole, row < rows)
    if GRADIENT:
        if ONE:
            share = exp(s - top) * (1 / tl.where(total == 0, 1.0, total))
            d = tl.where(whole == 0, 0.0, whole * tl.where(col == label, share - 1, share))
        else:
            d = _slope(s, q, top + log_total, whole)
        tl.store(grad + row * cols + col, d.to(grad.dtype.element_ty), inside)


@triton.jit
def _loss_wide(
    x, target, weight, part, cols, x_stride, smoothing, ignore_index, size1, size2, stride0, stride1, stride2, target_col, span,
    HARD: tl.constexpr, ONE: tl.constexpr, WEIGHTED: tl.constexpr, CHUNK: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """Maximum, sum of exponentials, mass, and dot product of a span of a row; exponentials and scores are relative to the maximum."""
    row = tl.program_id(0).to(tl.int64)
    begin = tl.program_id(1) * span
    end = tl.minimum(begin + span, cols)
    tops = tl.full([CHUNK // GROUP], float("-inf"), tl.float32)
    totals = tl.zeros([CHUNK // GROUP], tl.float32)
    masses = tl.zeros([CHUNK // GROUP], tl.float32)
    dots = tl.zeros([CHUNK // GROUP], tl.float32)
    for start in tl.range(begin, end, CHUNK, num_stages=4):
        col = start + tl.arange(0, CHUNK)
        s = tl.load(x + row * x_stride + col, col < end, other=float("-inf")).to(tl.float32).reshape(CHUNK // GROUP, GROUP)
        higher = tl.maximum(tops, tl.max(s, 1))
        new = finite(higher)
        totals = totals * exp(tops - new) + tl.sum(exp(s - new[:, None]), 1)
        if not ONE:
            q = _coefficients(
                target, weight, row, col, col < end, True, cols, smoothing, ignore_index, size1, size2, stride0, stride1, stride2, target_col,
                HARD, WEIGHTED,
            )  # fmt: skip
            q = tl.where(col < end, q, 0.0).reshape(CHUNK // GROUP, GROUP)
            dots += _shift(masses, tops, new) + tl.sum(tl.where(q == 0, 0.0, q * (s - new[:, None])), 1)
            masses += tl.sum(tl.where(s == float("-inf"), 0.0, q), 1)
        tops = higher
    top = tl.max(tops, 0)
    if ONE:  # the first span answers for the label, wherever it lies
        label, count = _label(target, weight, row, begin == 0, cols, ignore_index, size1, size2, stride0, stride1, stride2, WEIGHTED)
        count = tl.where(begin == 0, count, 0.0)
        score = tl.load(x + row * x_stride + label).to(tl.float32)
        mass = tl.where(score == float("-inf"), 0.0, count)
        dot = tl.where(count == 0, 0.0, count * (score - finite(top)))
    else:
        mass = tl.sum(masses, 0)
        dot = tl.sum(dots + _shift(masses, tops, finite(top)), 0)
    at = part + (row * tl.num_programs(1) + tl.program_id(1)) * 4
    tl.store(at, top)
    tl.store(at + 1, tl.sum(totals * exp(tops - finite(top)), 0))
    tl.store(at + 2, mass)
    tl.store(at + 3, dot)


@triton.jit
def _gradient(
    out, grad, x, target, weight, log_z, mass, rows, cols, x_stride, smoothing, ignore_index,
    size1, size2, stride0, stride1, stride2, target_col,
    HARD: tl.constexpr, ONE: tl.constexpr, WEIGHTED: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    row = (tl.program_id(0) * HEIGHT + tl.arange(0, HEIGHT)).to(tl.int64)[:, None]
    col = (tl.program_id(1) * WIDTH + tl.arange(0, WIDTH))[None, :]
    inside = (row < rows) & (col < cols)
    log_z = tl.load(log_z + row, row < rows, other=0.0)
    mass = tl.load(mass + row, row < rows, other=0.0)
    grad = tl.load(grad + row, row < rows, other=0.0).to(tl.float32)
    if ONE:  # rows that do not count are not read: neither their logits nor their gradient matter, which a mean over nothing makes infinite
        label, _count = _label(target, weight, row, row < rows, cols, ignore_index, size1, size2, stride0, stride1, stride2, False)
        s = tl.load(x + row * x_stride + col, inside & (mass != 0), other=float("-inf")).to(tl.float32)
        share = exp(s - tl.where(mass == 0, 0.0, log_z))
        d = tl.where(col == label, share - 1, share) * tl.where(mass == 0, 0.0, mass * grad)
    else:
        s = tl.load(x + row * x_stride + col, inside, other=float("-inf")).to(tl.float32)
        q = _coefficients(
            target, weight, row, col, inside, row < rows, cols, smoothing, ignore_index, size1, size2, stride0, stride1, stride2, target_col,
            HARD, WEIGHTED,
        )  # fmt: skip
        d = _slope(s, q, log_z, mass)
        d = tl.where(d == 0, 0.0, d * grad)  # a mean over nothing has an infinite gradient
    tl.store(out + row * cols + col, d.to(out.dtype.element_ty), inside)


def _arguments(x: Tensor, target: Tensor, weight: Tensor | None, smoothing: float, ignore_index: int):
    """Dense logits, the target, and the arguments and constants that all kernels share."""
    hard = not target.is_floating_point()
    target, sizes, strides = layout.broadcast_strides(target[..., None] if hard else target)
    x = layout.dense(x)
    shared = (x.shape[1], x.stride(0), smoothing, ignore_index, *sizes[1:], *strides, target.stride(-1))
    weight = None if weight is None else weight.contiguous()
    return x, target, weight, shared, {"HARD": hard, "ONE": hard and not smoothing, "WEIGHTED": weight is not None}


def combine(part: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, log-partition and mass of each row from the maxima, sums, masses and dot products (rows, splits, 4) of its spans."""
    tops, totals, masses, dots = part.unbind(-1)
    top = tops.amax(-1, keepdim=True)
    top = top.masked_fill(top == -torch.inf, 0)
    total = (totals * (tops - top).exp()).sum(-1)
    log_total = total.where(total != 0, 1).log()
    dots = (dots + (masses * (tops.masked_fill(tops == -torch.inf, 0) - top)).where(masses != 0, 0)).sum(-1)
    masses = masses.sum(-1)
    return (log_total * masses).where(masses != 0, 0) - dots, top[:, 0] + log_total, masses


def forward(x: Tensor, target: Tensor, weight: Tensor | None, smoothing: float, ignore_index: int, gradient: bool):
    """Loss, log-partition, mass, and the gradient (or an empty tensor)."""
    loss, log_z, mass = (torch.zeros(x.shape[:-1], dtype=torch.float32, device=x.device) for _ in range(3))
    grad = torch.empty(x.shape if gradient else (0,), dtype=x.dtype, device=x.device)
    if not x.numel():
        return loss, log_z, mass, grad
    logits = x
    x, target, weight, shared, constants = _arguments(x, target, weight, smoothing, ignore_index)
    rows, cols = x.shape
    if cols <= layout.WIDEST // 2:  # a wider tile of logits and coefficients would spill
        height, width, warps = layout.tile(cols)
        _loss_rows[(triton.cdiv(rows, height),)](
            x,
            target,
            weight,
            loss,
            log_z,
            mass,
            grad,
            rows,
            *shared,
            **constants,
            GRADIENT=gradient,
            HEIGHT=height,
            WIDTH=width,
            num_warps=warps,
        )
        count("cross_entropy", "triton", "rows")
        return loss, log_z, mass, grad
    loaded = [x] if constants["ONE"] else [t for t in (x, target if target.is_floating_point() else None, weight) if t is not None]
    chunk = layout.chunk(*loaded)
    splits, span = layout.spans(rows, cols, chunk)
    part = torch.empty(rows, splits, 4, dtype=torch.float32, device=x.device)
    _loss_wide[(rows, splits)](x, target, weight, part, *shared, span, **constants, CHUNK=chunk, GROUP=layout.group(*loaded), num_warps=layout.WARPS)
    count("cross_entropy", "triton", "loop" if splits == 1 else "split")
    loss, log_z, mass = (t.view(loss.shape) for t in combine(part))
    if gradient:
        grad = backward(torch.ones_like(loss), logits, target, weight, log_z, mass, smoothing, ignore_index)
    return loss, log_z, mass, grad


def backward(grad: Tensor, x: Tensor, target: Tensor, weight: Tensor | None, log_z: Tensor, mass: Tensor, smoothing: float, ignore_index: int) -> Tensor:
    """Gradient in the logits; no reduction is left to do, so that one kernel serves every width."""
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if not x.numel():
        return out
    x, target, weight, shared, constants = _arguments(x, target, weight, smoothing, ignore_index)
    rows, cols = x.shape
    height, width, warps = layout.tile(min(cols, layout.TILE))
    grid = (triton.cdiv(rows, height), triton.cdiv(cols, width))
    _gradient[grid](out, grad.contiguous(), x, target, weight, log_z, mass, rows, *shared, **constants, HEIGHT=height, WIDTH=width, num_warps=warps)
    count("cross_entropy_backward", "triton", "rows")
    return out
