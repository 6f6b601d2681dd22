"""Kernels of the sparse plus low-rank layer: sparse values are added to a tile of the product while it is in registers, and read out of one.

The places ascend, so that those of a tile are a short run in each of its rows, found by bisection. The t-th of every row are handled together.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .dispatch import count
from .masked_linear_triton import constants, place, tile_product


@triton.jit
def _first(indices, key, n, steps):
    """For each key the number of indices below it."""
    low = tl.zeros_like(key)
    high = low + n
    for _ in range(steps):
        middle = (low + high) // 2
        below = tl.load(indices + middle, low < high, other=0) < key
        low, high = tl.where((low < high) & below, middle + 1, low), tl.where((low < high) & ~below, middle, high)
    return low


@triton.jit
def _tile(columns, rows, HEIGHT: tl.constexpr, WIDTH: tl.constexpr):
    """Rows and columns of this program."""
    block, tile = place(columns, tl.cdiv(rows, HEIGHT))
    return (block * HEIGHT + tl.arange(0, HEIGHT)).to(tl.int64), (tile * WIDTH + tl.arange(0, WIDTH)).to(tl.int64)


@triton.jit
def _runs(indices, row, col, rows, cols, n, steps, WIDTH: tl.constexpr):
    """Where the places of a tile begin and end in each of its rows, and the longest run."""
    left = tl.min(col, 0)
    row = tl.minimum(row, rows)
    begin = _first(indices, row * cols + left, n, steps)
    end = _first(indices, row * cols + tl.minimum(left + WIDTH, cols), n, steps)
    end = tl.where(row < rows, end, begin)
    return begin, end, tl.max(end - begin, 0).to(tl.int32)


@triton.jit
def _weight(
    b, a, values, indices, out, scale, rows, cols, inner, b_row, b_inner, a_inner, a_col, n, steps,
    PRECISION: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    row, col = _tile(tl.cdiv(cols, WIDTH), rows, HEIGHT, WIDTH)
    total = tile_product(b, a, b, row, col, rows, cols, inner, b_row, b_inner, a_inner, a_col, 0, 0, False, PRECISION, HEIGHT, WIDTH, DEPTH)
    total *= scale
    begin, end, longest = _runs(indices, row, col, rows, cols, n, steps, WIDTH)
    for t in range(longest):
        at = begin + t
        column = tl.load(indices + at, at < end, other=-1) - row * cols
        value = tl.load(values + at, at < end, other=0.0).to(tl.float32)
        total += tl.where(col[None, :] == column[:, None], value[:, None], 0.0)
    tl.store(out + row[:, None] * cols + col[None, :], total.to(out.dtype.element_ty), (row[:, None] < rows) & (col[None, :] < cols))


@triton.jit
def _at_places(
    grad, x, indices, out, rows, cols, inner, grad_inner, grad_row, x_inner, x_col, n, steps,
    PRECISION: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    row, col = _tile(tl.cdiv(cols, WIDTH), rows, HEIGHT, WIDTH)
    begin, end, longest = _runs(indices, row, col, rows, cols, n, steps, WIDTH)
    if longest > 0:
        total = tile_product(
            grad, x, x, row, col, rows, cols, inner, grad_row, grad_inner, x_inner, x_col, 0, 0, False, PRECISION, HEIGHT, WIDTH, DEPTH
        )  # fmt: skip
        for t in range(longest):
            at = begin + t
            column = tl.load(indices + at, at < end, other=-1) - row * cols
            value = tl.sum(tl.where(col[None, :] == column[:, None], total, 0.0), 1)
            tl.store(out + at, value.to(out.dtype.element_ty), at < end)


def _launch(rows: int, cols: int, dtype: torch.dtype) -> tuple[tuple[int], dict]:
    options = constants(rows, dtype)
    return (triton.cdiv(rows, options["HEIGHT"]) * triton.cdiv(cols, options["WIDTH"]),), options


def weight(b: Tensor, a: Tensor, values: Tensor, indices: Tensor, scale: float) -> Tensor:
    """scale b a plus the values at their places, each entry rounded once."""
    (rows, inner), cols, n = b.shape, a.shape[1], len(indices)
    out = torch.empty(rows, cols, dtype=b.dtype, device=b.device)
    if out.numel():
        grid, options = _launch(rows, cols, b.dtype)
        places = (values.contiguous(), indices.contiguous())
        _weight[grid](b, a, *places, out, scale, rows, cols, inner, *b.stride(), *a.stride(), n, n.bit_length(), **options)
        count("sparse_low_rank", "triton", "weight")
    return out


def at_places(grad: Tensor, x: Tensor, indices: Tensor) -> Tensor:
    """The entries of grad^T x at the places; the others never leave a tile."""
    (inner, rows), cols, n = grad.shape, x.shape[1], len(indices)
    out = torch.empty(n, dtype=grad.dtype, device=grad.device)
    if n:
        grid, options = _launch(rows, cols, grad.dtype)
        _at_places[grid](grad, x, indices.contiguous(), out, rows, cols, inner, *grad.stride(), *x.stride(), n, n.bit_length(), **options)
        count("sparse_low_rank", "triton", "places")
    return out
