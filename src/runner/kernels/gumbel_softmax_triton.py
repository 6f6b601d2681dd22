"""Kernel of the Gumbel-softmax: the noise is made where it is used and never stored."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import layout
from .dispatch import count
from .exponential_triton import exp, finite


@triton.jit
def _log(x):
    """The logarithm of normal numbers: libdevice's polynomial, less what others would ask for."""
    bits = x.to(tl.int32, bitcast=True)
    power = (bits - 0x3F2AAAAB) & -0x800000  # so that what remains lies in [2/3, 4/3)
    f = (bits - power).to(tl.float32, bitcast=True) - 1
    p = f * -0.130187988 + 0.140889585
    p = p * f - 0.121489584
    p = p * f + 0.139814854
    p = p * f - 0.166846126
    p = p * f + 0.200120345
    p = p * f - 0.249996200
    p = p * f + 0.333331972
    p = p * f - 0.5
    return power.to(tl.float32) * 8.262958405176314e-08 + (p * (f * f) + f)  # ln 2 / 2^23


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
    s -= _log(-_log(u))
    top = tl.max(s, 1)[:, None]
    e = exp(s - finite(top), scale)
    total = tl.sum(e, 1)[:, None]
    tl.store(y + row * cols + col, (e * (1 / tl.where(total == 0, 1.0, total))).to(y.dtype.element_ty), inside)


def forward(x: Tensor, seed: Tensor, tau: float) -> Tensor:
    """Along the last dimension of `x`; `seed` is a zero-dimensional int64 tensor on its device."""
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if x.numel():
        x = layout.dense(x)
        height, width, warps = layout.tile(max(x.shape[1], 4))
        _forward[(triton.cdiv(len(x), height),)](x, seed, y, *x.shape, x.stride(0), 1 / tau, HEIGHT=height, WIDTH=width, num_warps=warps)
        count("gumbel_softmax", "triton", "rows")
    return y
