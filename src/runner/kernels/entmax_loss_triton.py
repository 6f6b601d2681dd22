"""Kernels of the losses of sparse softmaxes: one read gives the loss and, written over nothing else, its gradient; backward scales that."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import layout
from .dispatch import count
from .entmax_triton import group, project, terms, variant


@triton.jit
def _power(p, alpha, KIND: tl.constexpr):
    if KIND == "sparsemax":
        return p * p
    elif KIND == "entmax15":
        return p * tl.sqrt(p)
    else:
        return tl.where(p > 0, tl.exp2(alpha * tl.log2(tl.where(p > 0, p, 1.0))), p * 0.0)


@triton.jit
def _forward(
    x, target, loss, out, rows, cols, x_stride, ignore_index, size1, size2, stride0, stride1, stride2, target_col, alpha,
    KIND: tl.constexpr, STEPS: tl.constexpr, HARD: tl.constexpr, GRADIENT: tl.constexpr,
    HEIGHT: tl.constexpr, WIDTH: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    row = (tl.program_id(0) * HEIGHT + tl.arange(0, HEIGHT)).to(tl.int64)[:, None]
    col = tl.arange(0, WIDTH)[None, :]
    inside = (row < rows) & (col < cols)
    s = tl.load(x + row * x_stride + col, inside, other=float("-inf")).to(tl.float32)
    at = target + row // size2 // size1 * stride0 + row // size2 % size1 * stride1 + row % size2 * stride2
    scale = alpha - 1
    p = 1 / scale
    s, top, tau, unit = project(s, scale, cols, p, 1.0 / cols, KIND, STEPS, GROUP)
    powers, _slopes = terms(s, tau, scale, p, KIND)
    root = tl.clamp(s * scale - tau, 0.0, 1.0)
    if KIND != "sparsemax" and KIND != "entmax15":
        root *= tl.exp2(scale * tl.log2(unit))
    y = powers * unit
    share = 1 / (alpha * scale)
    spread = (1 - root) * share  # of which y has the mean y - y^alpha, as y is the p-th power of the root
    if HARD:
        label = tl.load(at, row < rows, other=0)
        counts = (row < rows) & (label != ignore_index)
        known = (label >= 0) & (label < cols)
        score = tl.load(x + row * x_stride + label, counts & known, other=float("nan")).to(tl.float32)
        value = tl.sum(y * (tl.maximum(s, -2 * p) + spread), 1)[:, None] - (score - top)
        value = tl.where(counts, value, 0.0)
        gap = powers * tl.where(counts, tl.where(known, unit, float("nan")), 0.0)
        gap = tl.where(col == tl.where(counts & (score > float("-inf")), label, -1).to(tl.int32), gap - 1, gap)
    else:
        t = tl.load(at + col.to(tl.int64) * target_col, inside, other=0.0).to(tl.float32)
        gap = y - t
        value = tl.sum(tl.where(gap == 0, 0.0, gap * s) + y * spread - (t - _power(t, alpha, KIND)) * share, 1)[:, None]
        gap = tl.where((s == float("-inf")) & (unit == unit), 0.0, gap)  # a row that has NaN has it everywhere
    tl.store(loss + row, value, row < rows)
    if GRADIENT:
        tl.store(out + row * cols + col, gap.to(out.dtype.element_ty), inside)


@triton.jit
def _scale(grad, slope, out, rows, cols, HEIGHT: tl.constexpr, WIDTH: tl.constexpr):
    row = (tl.program_id(0) * HEIGHT + tl.arange(0, HEIGHT)).to(tl.int64)[:, None]
    col = (tl.program_id(1) * WIDTH + tl.arange(0, WIDTH))[None, :]
    inside = (row < rows) & (col < cols)
    factor = tl.load(grad + row, row < rows, other=0.0).to(tl.float32)
    value = tl.load(slope + row * cols + col, inside, other=0.0).to(tl.float32)
    value = tl.where(value == 0, 0.0, value * factor)  # a mean over nothing has an infinite gradient
    tl.store(out + row * cols + col, value.to(out.dtype.element_ty), inside)


def forward(logits: Tensor, target: Tensor, alpha: float, ignore_index: int, gradient: bool) -> tuple[Tensor, Tensor]:
    """The loss of each row, and its gradient or an empty tensor."""
    loss = torch.zeros(logits.shape[:-1], dtype=torch.float32, device=logits.device)
    out = torch.empty(logits.shape if gradient else (0,), dtype=logits.dtype, device=logits.device)
    if not logits.numel():
        return loss, out
    hard = not target.is_floating_point()
    target, sizes, strides = layout.broadcast_strides(target[..., None] if hard else target)
    x = layout.dense(logits)
    height, width, warps = layout.tile(x.shape[1])
    _forward[(triton.cdiv(len(x), height),)](
        x, target, loss, out, *x.shape, x.stride(0), ignore_index, *sizes[1:], *strides, target.stride(-1), alpha,
        KIND=variant(alpha), STEPS=64, HARD=hard, GRADIENT=gradient,
        HEIGHT=height, WIDTH=width, GROUP=group(x, width) if width >= 1024 else 1, num_warps=warps,  # narrower ones would spill
    )  # fmt: skip
    count("entmax_loss", "triton", "rows")
    return loss, out


def backward(grad: Tensor, slope: Tensor) -> Tensor:
    """Rows of `slope` times the numbers in `grad`."""
    out = torch.empty_like(slope)
    if slope.numel():
        cols = slope.shape[-1]
        rows = slope.numel() // cols
        height, width, warps = layout.tile(min(cols, layout.TILE))
        _scale[(triton.cdiv(rows, height), triton.cdiv(cols, width))](grad.contiguous(), slope, out, rows, cols, HEIGHT=height, WIDTH=width, num_warps=warps)
        count("entmax_loss_backward", "triton", "rows")
    return out
