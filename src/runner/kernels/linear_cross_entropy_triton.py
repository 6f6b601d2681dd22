"""Kernels of the linear layer with cross entropy.

Forward: a program holds a block of rows, goes over a span of classes in tiles, and leaves maximum, sum of exponentials, mass and dot product of
its span, which torch combines. Backward: for a strip of classes at a time the slopes are written in the dtype of the inputs, and
two products add them up in float32: torch's own, or where tiles may be skipped a kernel that reads which are not. No atomics:
results are the same from run to run.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import layout
from .cross_entropy_triton import _shift, _slope, combine
from .dispatch import count
from .exponential_triton import exp, finite

STRIP = 4096  # classes whose slopes are held at a time, at least; else twice the width of the weight
PROGRAMS = 4 * layout.PROGRAMS  # programs of the forward, where there are as many tiles
HALF = (128, 128, 64, 8)
TILES = {torch.float32: (64, 64, 32, 4), torch.bfloat16: HALF, torch.float16: HALF}  # rows and classes (the same number), depth, warps


@triton.jit
def _place(columns, blocks):
    """Block of rows and of columns of this program: eight blocks of rows go over the columns together, so that both stay in the cache."""
    here = tl.program_id(0)
    group = here // (8 * columns) * 8
    tall = tl.minimum(blocks - group, 8)
    within = here % (8 * columns)
    return group + within % tall, within // tall


@triton.jit
def _logits(
    hidden, weight, bias, exclude, ids, row, col, rows, cols, depth, h_stride, w_stride,
    BIASED: tl.constexpr, EXCLUDES: tl.constexpr, PRECISION: tl.constexpr, WIDEN: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    z = tl.zeros([HEIGHT, WIDTH], tl.float32)
    for start in range(0, depth, DEPTH):
        k = start + tl.arange(0, DEPTH)
        h = tl.load(hidden + row[:, None] * h_stride + k[None, :], (row[:, None] < rows) & (k[None, :] < depth), other=0.0)
        w = tl.load(weight + col[None, :] * w_stride + k[:, None], (col[None, :] < cols) & (k[:, None] < depth), other=0.0)
        if WIDEN:
            h, w = h.to(tl.float32), w.to(tl.float32)
        z = tl.dot(h, w, z, input_precision=PRECISION)
    if BIASED:
        z += tl.load(bias + col, col < cols, other=0.0).to(tl.float32)[None, :]
    if EXCLUDES:
        own = tl.load(exclude + row, row < rows, other=0)
        z = tl.where(own[:, None] == tl.load(ids + col, col < cols, other=0)[None, :], float("-inf"), z)
    return tl.where(col[None, :] < cols, z, float("-inf"))


@triton.jit
def _shares(target, row, col, rows, cols, t_stride, smoothing, ignore_index, KIND: tl.constexpr):
    """The smoothed target of a tile. A class index out of range gives NaN."""
    inside = (row[:, None] < rows) & (col[None, :] < cols)
    if KIND == "hard":
        label = tl.load(target + row * t_stride, row < rows, other=0)
        counts = tl.where((label < 0) | (label >= cols), float("nan"), 1.0)
        counts = tl.where(label == ignore_index, 0.0, counts)[:, None]
        q = tl.where(col[None, :] == label[:, None], (1 - smoothing + smoothing / cols) * counts, smoothing / cols * counts)
    else:
        q = tl.load(target + row[:, None] * t_stride + col[None, :], inside, other=0.0).to(tl.float32) * (1 - smoothing) + smoothing / cols
    return tl.where(inside, q, 0.0)


@triton.jit
def _partial(
    hidden, weight, bias, exclude, ids, target, part, rows, cols, depth, h_stride, w_stride, t_stride, smoothing, ignore_index, span, splits,
    KIND: tl.constexpr, BIASED: tl.constexpr, EXCLUDES: tl.constexpr,
    PRECISION: tl.constexpr, WIDEN: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    block, split = _place(splits, tl.cdiv(rows, HEIGHT))
    row = (block * HEIGHT + tl.arange(0, HEIGHT)).to(tl.int64)
    top = tl.full([HEIGHT], float("-inf"), tl.float32)
    total = tl.zeros([HEIGHT], tl.float32)
    mass = tl.zeros([HEIGHT], tl.float32)
    dot = tl.zeros([HEIGHT], tl.float32)
    for start in range(split * span, tl.minimum((split + 1) * span, cols), WIDTH):
        col = (start + tl.arange(0, WIDTH)).to(tl.int64)
        z = _logits(
            hidden, weight, bias, exclude, ids, row, col, rows, cols, depth, h_stride, w_stride, BIASED, EXCLUDES, PRECISION, WIDEN, HEIGHT, WIDTH, DEPTH
        )  # fmt: skip
        higher = tl.maximum(top, tl.max(z, 1))
        new = finite(higher)
        if KIND != "none":
            q = _shares(target, row, col, rows, cols, t_stride, smoothing, ignore_index, KIND)
            dot += _shift(mass, top, new) + tl.sum(tl.where(q == 0, 0.0, q * (z - new[:, None])), 1)
            mass += tl.sum(tl.where(z == float("-inf"), 0.0, q), 1)
        total = total * exp(top - new) + tl.sum(exp(z - new[:, None]), 1)
        top = higher
    at = part + (row * splits + split) * 4
    tl.store(at, top, row < rows)
    tl.store(at + 1, total, row < rows)
    tl.store(at + 2, mass, row < rows)
    tl.store(at + 3, dot, row < rows)


@triton.jit
def _slopes(
    hidden, weight, bias, exclude, ids, target, grad, log_z, mass, out, used, begin, width,
    rows, cols, depth, h_stride, w_stride, t_stride, smoothing, ignore_index, least,
    KIND: tl.constexpr, BIASED: tl.constexpr, EXCLUDES: tl.constexpr, SKIP: tl.constexpr,
    PRECISION: tl.constexpr, WIDEN: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """Gradient in the logits of `width` classes from `begin` on, and which of its tiles are not skipped."""
    tiles = tl.cdiv(width, WIDTH)
    block, tile = _place(tiles, tl.cdiv(rows, HEIGHT))
    row = (block * HEIGHT + tl.arange(0, HEIGHT)).to(tl.int64)
    lane = tile * WIDTH + tl.arange(0, WIDTH)
    col = (begin + lane).to(tl.int64)
    z = _logits(
        hidden, weight, bias, exclude, ids, row, col, rows, cols, depth, h_stride, w_stride, BIASED, EXCLUDES, PRECISION, WIDEN, HEIGHT, WIDTH, DEPTH
    )  # fmt: skip
    level = tl.load(log_z + row, row < rows, other=0.0)[:, None]
    if KIND == "none":
        d = exp(z - level)
    else:
        q = _shares(target, row, col, rows, cols, t_stride, smoothing, ignore_index, KIND)
        d = _slope(z, q, level, tl.load(mass + row, row < rows, other=0.0)[:, None])
    inside = (row[:, None] < rows) & (lane[None, :] < width)
    if SKIP:  # a NaN is not skipped
        large = tl.where(inside & ((tl.abs(d) >= least) | (d != d)), 1, 0)
        tl.store(used + block * tiles + tile, tl.max(tl.max(large, 1), 0))
    d = tl.where(d == 0, 0.0, d * tl.load(grad + row, row < rows, other=0.0).to(tl.float32)[:, None])  # as in cross_entropy_triton
    tl.store(out + row[:, None] * width + lane[None, :], d.to(out.dtype.element_ty), inside)


@triton.jit
def _product(
    a, b, used, out, rows, inner, cols, a_row, a_inner, b_stride, used_row, used_inner,
    PRECISION: tl.constexpr, WIDEN: tl.constexpr, HEIGHT: tl.constexpr, INNER: tl.constexpr, WIDTH: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """out += a b, where only those of the tiles (HEIGHT, INNER) of `a` are read that are marked as used."""
    block, tile = _place(tl.cdiv(cols, WIDTH), tl.cdiv(rows, HEIGHT))
    row = (block * HEIGHT + tl.arange(0, HEIGHT)).to(tl.int64)[:, None]
    col = (tile * WIDTH + tl.arange(0, WIDTH))[None, :]
    inside = (row < rows) & (col < cols)
    total = tl.zeros([HEIGHT, WIDTH], tl.float32)
    for start in range(0, inner, INNER):
        if tl.load(used + block * used_row + start // INNER * used_inner) != 0:
            for step in range(0, INNER, DEPTH):
                k = (start + step + tl.arange(0, DEPTH)).to(tl.int64)
                left = tl.load(a + row * a_row + k[None, :] * a_inner, (row < rows) & (k[None, :] < inner), other=0.0)
                right = tl.load(b + k[:, None] * b_stride + col, (k[:, None] < inner) & (col < cols), other=0.0)
                if WIDEN:
                    left, right = left.to(tl.float32), right.to(tl.float32)
                total = tl.dot(left, right, total, input_precision=PRECISION)
    at = out + row * cols + col
    tl.store(at, total + tl.load(at, inside, other=0.0), inside)


def _arguments(hidden: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor | None, exclude: Tensor | None, ids: Tensor | None):
    """Dense tensors, and the constants that the kernels share. `None`s are replaced by a tensor that is not read."""
    kind = "none" if target is None else "soft" if target.is_floating_point() else "hard"
    hidden, weight = layout.dense(hidden), layout.dense(weight)
    if kind == "soft":
        target = layout.dense(target)
    height, width, depth, warps = TILES[hidden.dtype]
    exact = hidden.dtype != torch.float32 or torch.get_float32_matmul_precision() == "highest"
    constants = {"KIND": kind, "BIASED": bias is not None, "EXCLUDES": exclude is not None, "PRECISION": "ieee" if exact else "tf32"}
    constants["WIDEN"] = hidden.device.type == "cpu"  # the interpreter multiplies bfloat16 as if it were integers
    constants |= {"HEIGHT": height, "WIDTH": width, "DEPTH": depth, "num_warps": warps}
    rest = (hidden if x is None else x.contiguous() if x.ndim == 1 else x for x in (bias, exclude, ids, target))
    return (hidden, weight, *rest), constants


def _sizes(hidden: Tensor, weight: Tensor, target: Tensor) -> tuple[int, ...]:
    return len(hidden), len(weight), hidden.shape[1], hidden.stride(0), weight.stride(0), target.stride(0)


def forward(hidden, weight, bias, target, exclude, ids, smoothing: float, ignore_index: int) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, log-partition and mass; without a target the log-sum-exp, log-partition and 1."""
    rows, classes = len(hidden), len(weight)
    if not (rows and classes):  # a process may keep none of its classes
        values = (-torch.inf if target is None else 0.0, 0.0, 0.0)
        return tuple(torch.full((rows,), value, dtype=torch.float32, device=hidden.device) for value in values)
    tensors, constants = _arguments(hidden, weight, bias, target, exclude, ids)
    hidden, weight, *_, labels = tensors
    if constants["KIND"] == "soft":  # a tile of targets beside that of the logits would spill
        constants["HEIGHT"] //= 2
    blocks, tiles = triton.cdiv(rows, constants["HEIGHT"]), triton.cdiv(classes, constants["WIDTH"])
    span = triton.cdiv(tiles, min(tiles, triton.cdiv(PROGRAMS, blocks))) * constants["WIDTH"]
    splits = triton.cdiv(classes, span)
    part = torch.empty(rows, splits, 4, dtype=torch.float32, device=hidden.device)
    _partial[(blocks * splits,)](*tensors, part, *_sizes(hidden, weight, labels), smoothing, ignore_index, span, splits, **constants)
    count("linear_cross_entropy", "triton", "tiles")
    loss, log_z, mass = combine(part)
    if target is None:
        dead = part[..., 0].amax(-1) == -torch.inf
        return log_z.masked_fill(dead, -torch.inf), log_z, torch.ones_like(mass)
    return loss, log_z, mass


def backward(grad, hidden, weight, bias, target, exclude, ids, log_z, mass, smoothing, ignore_index, skip, learns):
    """Gradients in hidden, weight and bias."""
    (dense, matrix, *rest), constants = _arguments(hidden, weight, bias, target, exclude, ids)
    (rows, depth), classes = dense.shape, len(matrix)
    height, wide = constants["HEIGHT"], constants["WIDTH"]
    dh = torch.zeros(rows if learns[0] else 0, depth, dtype=torch.float32, device=hidden.device)
    dw = torch.zeros(weight.shape if learns[1] else (0,), dtype=weight.dtype, device=weight.device)
    db = torch.zeros(bias.shape if learns[2] else (0,), dtype=(hidden if bias is None else bias).dtype, device=weight.device)
    least = torch.finfo(hidden.dtype).eps / 32
    strip = triton.cdiv(max(2 * depth, STRIP), wide) * wide
    blocks = triton.cdiv(rows, height)
    for begin in range(0, classes if rows else 0, strip):
        end = min(begin + strip, classes)
        slopes = torch.empty(rows, end - begin, dtype=hidden.dtype, device=hidden.device)
        used = torch.empty(blocks, triton.cdiv(end - begin, wide), dtype=torch.int32, device=hidden.device) if skip else None
        grid = (blocks * triton.cdiv(end - begin, wide),)
        _slopes[grid](
            dense, matrix, *rest, grad.contiguous(), log_z, mass, slopes, slopes if used is None else used, begin, end - begin,
            *_sizes(dense, matrix, rest[-1]), smoothing, ignore_index, least, **constants, SKIP=skip,
        )  # fmt: skip
        if learns[0]:
            _add(dh, slopes, matrix[begin:end], used, constants)
        if learns[1]:
            made = torch.zeros(end - begin, depth, dtype=torch.float32, device=weight.device)
            _add(made, slopes.T, dense, None if used is None else used.T, constants)
            dw[begin:end] = made
        if learns[2]:
            db[begin:end] = slopes.sum(0, dtype=torch.float32)
    count("linear_cross_entropy_backward", "triton", "tiles")
    return dh.to(hidden.dtype) if learns[0] else hidden.new_empty(0), dw, db


def _add(out: Tensor, a: Tensor, b: Tensor, used: Tensor | None, constants: dict) -> None:
    """out += a b in float32; tiles of `a` that are not used are left out."""
    if used is None:
        if a.is_cuda and a.dtype != torch.float32:
            torch.addmm(out, a, b, out_dtype=torch.float32, out=out)
        else:
            out.addmm_(a.float(), b.float())
        return
    tile = {name: constants[name] for name in ("HEIGHT", "WIDTH", "DEPTH", "PRECISION", "WIDEN", "num_warps")}
    grid = (triton.cdiv(len(a), tile["HEIGHT"]) * triton.cdiv(b.shape[1], tile["WIDTH"]),)
    _product[grid](a, b, used, out, *a.shape, b.shape[1], *a.stride(), b.stride(0), *used.stride(), **tile, INNER=tile["HEIGHT"])
