"""Kernel of top-n-sigma: maximum, mean, deviation and softmax from one read of a row that stays in registers."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import layout
from .dispatch import count
from .exponential_triton import exp, finite


@triton.jit
def _forward(x, y, rows, cols, x_stride, n, scale, MASK: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr):
    row = (tl.program_id(0) * HEIGHT + tl.arange(0, HEIGHT)).to(tl.int64)[:, None]
    col = tl.arange(0, WIDTH)[None, :]
    inside = (row < rows) & (col < cols)
    s = tl.load(x + row * x_stride + col, inside, other=float("-inf")).to(tl.float32)
    live = s != float("-inf")
    top = tl.max(s, 1)[:, None]
    top = finite(top)
    entries = tl.sum(tl.where(live, 1.0, 0.0), 1)[:, None]
    mean = tl.sum(tl.where(live, s, 0.0), 1)[:, None] / tl.maximum(entries, 1.0)
    off = tl.where(s > float("-inf"), s - mean, 0.0)
    sigma = tl.sqrt(tl.sum(off * off, 1)[:, None] / tl.maximum(entries - 1, 1.0))
    below = s < top - n * sigma
    if MASK:
        tl.store(y + row * cols + col, ((below == 0) & live).to(tl.int8), inside)
    else:
        e = tl.where(below, 0.0, exp(s - top, scale))
        total = tl.sum(e, 1)[:, None]
        tl.store(y + row * cols + col, (e * (1 / tl.where(total == 0, 1.0, total))).to(y.dtype.element_ty), inside)


def _launch(op: str, x: Tensor, y: Tensor, n: float, scale: float, mask: bool) -> None:
    if x.numel():
        x = layout.dense(x)
        height, width, warps = layout.tile(x.shape[1])
        grid = (triton.cdiv(len(x), height),)
        _forward[grid](x, y, *x.shape, x.stride(0), float(n), float(scale), MASK=mask, HEIGHT=height, WIDTH=width, num_warps=warps)
        count(op, "triton", "rows")


def mask(x: Tensor, n: float) -> Tensor:
    """Along the last dimension of `x`."""
    y = torch.empty(x.shape, dtype=torch.bool, device=x.device)
    _launch("top_n_sigma_mask", x, y.view(torch.int8), n, 1.0, True)
    return y


def softmax(x: Tensor, n: float, temperature: float) -> Tensor:
    """Along the last dimension of `x`."""
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    _launch("top_n_sigma_softmax", x, y, n, 1 / temperature, False)
    return y
