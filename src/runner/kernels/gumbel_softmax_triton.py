"""Kernel of the Gumbel-softmax: the noise is made where it is used and never stored."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import layout
from .dispatch import count


@triton.jit
def _forward(x, seed, y, rows, cols, x_stride, scale, HEIGHT: tl.constexpr, WIDTH: tl.constexpr):
    row = (tl.program_id(0) * HEIGHT + tl.arange(0, HEIGHT)).to(tl.int64)[:, None]
    col = tl.arange(0, WIDTH)[None, :]
    inside = (row < rows) & (col < cols)
    s = tl.load(x + row * x_stride + col, inside, other=float("-inf")).to(tl.float32)
    four = tl.zeros([HEIGHT, WIDTH // 4], tl.uint32) + tl.arange(0, WIDTH // 4)[None, :].to(tl.uint32)
    zero = four * 0
    a, b, c, d = tl.philox(tl.load(seed), four, zero + row.to(tl.uint32), zero + (row >> 32).to(tl.uint32), zero)
    word = tl.reshape(tl.join(tl.join(a, c), tl.join(b, d)), [HEIGHT, WIDTH])
    u = tl.minimum(((word >> 8).to(tl.int32).to(tl.float32) + 0.5) * 5.9604644775390625e-08, 0.999999940395355224609375)
    s = (s - tl.log(-tl.log(u))) * scale
    top = tl.max(s, 1)[:, None]
    e = tl.exp(s - tl.where(top == float("-inf"), 0.0, top))
    total = tl.sum(e, 1)[:, None]
    tl.store(y + row * cols + col, (e / tl.where(total == 0, 1.0, total)).to(y.dtype.element_ty), inside)


def forward(x: Tensor, seed: Tensor, tau: float) -> Tensor:
    """Along the last dimension of `x`; `seed` is a zero-dimensional int64 tensor on its device."""
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if x.numel():
        x = layout.dense(x)
        height, width, warps = layout.tile(max(x.shape[1], 4))
        _forward[(triton.cdiv(len(x), height),)](x, seed, y, *x.shape, x.stride(0), 1 / tau, HEIGHT=height, WIDTH=width, num_warps=warps)
        count("gumbel_softmax", "triton", "rows")
    return y
