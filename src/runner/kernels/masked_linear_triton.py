"""Kernel of the masked linear layer: a product of matrices of any strides, with a mask on the right operand's tiles or on the result's."""

import os

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import layout
from .dispatch import count

# rows and columns of a tile of the result, depth, warps
TILES = {torch.float32: (64, 64, 32, 8), torch.bfloat16: (128, 128, 64, 8), torch.float16: (128, 128, 64, 8)}


@triton.jit
def place(columns, blocks):
    """Block of rows and of columns of this program: eight blocks of rows go over the columns together, so that both stay in the cache."""
    here = tl.program_id(0)
    group = here // (8 * columns) * 8
    tall = tl.minimum(blocks - group, 8)
    within = here % (8 * columns)
    return group + within % tall, within // tall


@triton.jit
def tile_product(
    a, b, mask, row, col, rows, cols, inner, a_row, a_inner, b_inner, b_col, mask_inner, mask_col,
    MASKED: tl.constexpr, PRECISION: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """The tile (row, col) of a b in float32, or of a (b * mask)."""
    total = tl.zeros([HEIGHT, WIDTH], tl.float32)
    for start in range(0, inner, DEPTH):
        k = (start + tl.arange(0, DEPTH)).to(tl.int64)
        inside = (k[:, None] < inner) & (col[None, :] < cols)
        left = tl.load(a + row[:, None] * a_row + k[None, :] * a_inner, (row[:, None] < rows) & (k[None, :] < inner), other=0.0)
        right = tl.load(b + k[:, None] * b_inner + col[None, :] * b_col, inside, other=0.0)
        if MASKED:
            keep = tl.load(mask + k[:, None] * mask_inner + col[None, :] * mask_col, inside, other=0)
            right = tl.where(keep != 0, right, 0.0).to(right.dtype)
        if PRECISION == "interpreted":  # which multiplies the bits of bfloat16
            total = tl.dot(left.to(tl.float32), right.to(tl.float32), total)
        else:
            total = tl.dot(left, right, total, input_precision=PRECISION)
    return total


@triton.jit
def _product(
    a, b, mask, bias, out, rows, cols, inner, a_row, a_inner, b_inner, b_col, mask_row, mask_col,
    OPERAND: tl.constexpr, BIASED: tl.constexpr,
    PRECISION: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    block, tile = place(tl.cdiv(cols, WIDTH), tl.cdiv(rows, HEIGHT))
    row = (block * HEIGHT + tl.arange(0, HEIGHT)).to(tl.int64)
    col = (tile * WIDTH + tl.arange(0, WIDTH)).to(tl.int64)
    total = tile_product(
        a, b, mask, row, col, rows, cols, inner, a_row, a_inner, b_inner, b_col, mask_row, mask_col, OPERAND, PRECISION, HEIGHT, WIDTH, DEPTH
    )  # fmt: skip
    inside = (row[:, None] < rows) & (col[None, :] < cols)
    if BIASED:
        total += tl.load(bias + col, col < cols, other=0.0).to(tl.float32)[None, :]
    if not OPERAND:
        total = tl.where(tl.load(mask + row[:, None] * mask_row + col[None, :] * mask_col, inside, other=0) != 0, total, 0.0)
    tl.store(out + row[:, None] * cols + col[None, :], total.to(out.dtype.element_ty), inside)


def constants(rows: int, dtype: torch.dtype) -> dict:
    """Tile sizes for a result of so many rows, and how single precision is multiplied: as torch's own products are set to do."""
    height, width, depth, warps = TILES[dtype]
    height = min(height, max(16, layout.power_of_two(rows)))
    exact = dtype != torch.float32 or torch.get_float32_matmul_precision() == "highest"
    precision = "interpreted" if os.environ.get("TRITON_INTERPRET") == "1" else "ieee" if exact else "tf32"
    return {"PRECISION": precision, "HEIGHT": height, "WIDTH": width, "DEPTH": depth, "num_warps": warps if height > 32 else 4}


def product(a: Tensor, b: Tensor, mask: Tensor, bias: Tensor | None, operand: bool) -> Tensor:
    """a (b * mask) + bias, or (a b) * mask."""
    (rows, inner), cols = a.shape, b.shape[1]
    out = torch.empty(rows, cols, dtype=a.dtype, device=a.device)
    if out.numel():
        options = constants(rows, a.dtype)
        grid = (triton.cdiv(rows, options["HEIGHT"]) * triton.cdiv(cols, options["WIDTH"]),)
        bias, biased = (out, False) if bias is None else (bias.contiguous(), True)
        sizes = (rows, cols, inner, *a.stride(), *b.stride(), *mask.stride())
        _product[grid](a, b, mask.view(torch.int8), bias, out, *sizes, OPERAND=operand, BIASED=biased, **options)
        count("masked_linear", "triton", "operand" if operand else "result")
    return out
