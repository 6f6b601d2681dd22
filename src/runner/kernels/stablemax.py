"""Stablemax: a softmax with exp replaced by a function that is linear above zero and a reciprocal below, so that no logit absorbs the others.

y_i = s(x_i) / sum_j s(x_j), s(x) = x + 1 for x >= 0 and 1 / (1 - x) below; Prieto, Barsbey, Mediano & Birdal 2025, "Grokking at the Edge
of Numerical Stability". Entries at -inf get 0. The authors' `torch.where` of both branches has a NaN gradient at x = 1;
this has not.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from . import dispatch
from .layout import accumulator, like, moved
from .references import asks, gradients

TINY = torch.finfo(torch.float32).tiny


def stablemax(x: Tensor, dim: int = -1) -> Tensor:
    """Along `dim`, of the shape and dtype of `x` (float32, bfloat16, float16; any float in the reference). A row of -inf gives zeros."""
    x = moved(x, dim, -1)
    if x.shape[-1] == 0:
        y = x.clone()
    elif dispatch.fused("stablemax", x):
        y = fused_stablemax(x)[0]
    else:
        y = _reference(x)
    return moved(y, -1, dim)


def _reference(x: Tensor) -> Tensor:
    s = accumulator(x)
    s = F.threshold(s, -TINY, 0).add_((-s).relu_().add(1).reciprocal_())  # x above 0, whose slope at 0 is 1, and 1 / (1 + |x|) below
    total = s.sum(-1, keepdim=True)
    if not asks(s) or not total.detach().all():
        total = total.where(total != 0, 1)
    return like(s / total, x)


@dispatch.kernel("stablemax")
def fused_stablemax(x: Tensor) -> tuple[Tensor, Tensor]:
    """The output, and each row's sum of s(x)."""
    from . import stablemax_triton

    return stablemax_triton.forward(x)


@dispatch.kernel("stablemax_backward")
def stablemax_backward(grad: Tensor, x: Tensor, total: Tensor) -> Tensor:
    from . import stablemax_triton

    return stablemax_triton.backward(grad, x, total)


@fused_stablemax.register_fake
def _(x):
    return torch.empty(x.shape, dtype=x.dtype, device=x.device), torch.empty(x.shape[:-1], dtype=torch.float32, device=x.device)


@stablemax_backward.register_fake
def _(grad, x, total):
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)


def _save(ctx, inputs, output):
    ctx.save_for_backward(*inputs, output[1])


def _backward(ctx, grad, _):
    x, total = ctx.saved_tensors
    if torch.is_grad_enabled():  # a second derivative was asked for
        return gradients(_reference, (x,), grad)[0]
    return stablemax_backward(grad, x, total)


fused_stablemax.register_autograd(_backward, setup_context=_save)
dispatch.register("stablemax")
