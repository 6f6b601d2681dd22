"""Kernels of the masked optimizer steps: every tensor is read once and written once."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .dispatch import count

BLOCK = 2048


@triton.jit
def _load(x, at, n):
    return tl.load(x + at, at < n, other=0.0).to(tl.float32)


@triton.jit
def _store(x, at, n, keep, value):
    tl.store(x + at, tl.where(keep, value, 0.0).to(x.dtype.element_ty), at < n)


@triton.jit
def _sgd(param, grad, buffer, mask, n, lr, momentum, weight_decay, NESTEROV: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    keep = tl.load(mask + at, at < n, other=0) != 0
    w = _load(param, at, n)
    g = _load(grad, at, n)
    if weight_decay != 0:  # zero times an infinite weight is NaN
        g += weight_decay * w
    b = momentum * _load(buffer, at, n) + g
    if NESTEROV:
        g += momentum * b
    else:
        g = b
    _store(buffer, at, n, keep, b)
    _store(param, at, n, keep, w - lr * g)


@triton.jit
def _adamw(param, grad, exp_avg, exp_avg_sq, mask, n, lr, rest1, beta2, rest2, eps, weight_decay, correction1, correction2, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    keep = tl.load(mask + at, at < n, other=0) != 0
    g = _load(grad, at, n)
    m = _load(exp_avg, at, n)
    m += rest1 * (g - m)
    v = beta2 * _load(exp_avg_sq, at, n) + rest2 * g * g
    w = _load(param, at, n) * (1 - lr * weight_decay) - lr / correction1 * m / (tl.sqrt(v / correction2) + eps)
    _store(exp_avg, at, n, keep, m)
    _store(exp_avg_sq, at, n, keep, v)
    _store(param, at, n, keep, w)


def sgd(param: Tensor, grad: Tensor, buffer: Tensor, mask: Tensor, lr: float, momentum: float, weight_decay: float, nesterov: bool) -> None:
    """In place on `param` and `buffer`; all tensors dense in the same order."""
    if n := param.numel():
        grid = (triton.cdiv(n, BLOCK),)
        _sgd[grid](param, grad, buffer, mask.view(torch.int8), n, lr, momentum, weight_decay, NESTEROV=nesterov, BLOCK=BLOCK)
        count("masked_sgd", "triton", "blocks")


def adamw(param: Tensor, grad: Tensor, exp_avg: Tensor, exp_avg_sq: Tensor, mask: Tensor, lr: float, beta1: float, beta2: float, *scalars: float) -> None:
    """In place on `param` and both averages; all tensors dense in the same order."""
    if n := param.numel():
        betas = (1 - beta1, beta2, 1 - beta2)  # subtracted here: a scalar arrives in float32
        _adamw[(triton.cdiv(n, BLOCK),)](param, grad, exp_avg, exp_avg_sq, mask.view(torch.int8), n, lr, *betas, *scalars, BLOCK=BLOCK)
        count("masked_adamw", "triton", "blocks")
