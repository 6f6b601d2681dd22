"""Softpick: a rectified softmax whose rows need not sum to one and have exact zeros.

y_i = relu(exp(x_i) - 1) / (sum_j |exp(x_j) - 1| + eps), Zuhri, Fuadi & Aji 2025, "Softpick: No Attention Sink, No Massive Activations with
Rectified Softmax", equation 2. Entries at -inf count as masked: they are left out of the sum.
"""

import torch
from torch import Tensor

from . import dispatch
from .layout import accumulator, fits, like, moved
from .references import asks, masked


def softpick(x: Tensor, dim: int = -1, eps: float = 1e-6) -> Tensor:
    """Softpick along `dim`, of the shape and dtype of `x` (float32, bfloat16, float16; any float in the reference)."""
    x = moved(x, dim, -1)
    if x.shape[-1] == 0:
        y = x.clone()
    elif dispatch.fused("softpick", x, fits(x)):
        y = fused_softpick(x, eps)[0]
    else:
        y = like(_reference(accumulator(x), eps), x)
    return moved(y, -1, dim)


def _reference(x: Tensor, eps: float) -> Tensor:
    e, one = _rise(x, x.detach().amax(-1, keepdim=True))
    size = e.abs()
    if masked(x):
        size = size.where(x != -torch.inf, 0)
    total = size.sum(-1, keepdim=True) + eps * one
    return e.relu_().div_(total) if asks(e) and not e.requires_grad else e.relu() / total


def _rise(x: Tensor, top: Tensor) -> tuple[Tensor, float | Tensor]:
    """exp(x) - 1 and 1, relative to the exponential of the row's maximum where that is large. Small scores keep all their digits."""
    if asks(x) and (top < 64).all():
        return x.expm1(), 1.0
    low = -top.clamp_min(0)
    below = torch.expm1(-x.abs()) * (torch.relu(x) + low).exp()
    return below.where(x < 0, -below), low.exp()


@dispatch.kernel("softpick")
def fused_softpick(x: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """The output, and for each row the maximum (at least 0) and the denominator relative to its exponential."""
    from . import softpick_triton

    return softpick_triton.forward(x, eps)


@dispatch.kernel("softpick_backward")
def softpick_backward(grad: Tensor, x: Tensor, top: Tensor, total: Tensor) -> Tensor:
    from . import softpick_triton

    return softpick_triton.backward(grad, x, top, total)


@fused_softpick.register_fake
def _(x, eps):
    rows = (torch.empty(x.shape[:-1], dtype=torch.float32, device=x.device) for _ in range(2))
    return torch.empty(x.shape, dtype=x.dtype, device=x.device), *rows


@softpick_backward.register_fake
def _(grad, x, top, total):
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)


def _save(ctx, inputs, output):
    x, ctx.eps = inputs
    ctx.save_for_backward(x, *output[1:])


def _backward(ctx, grad, *_):
    x, top, total = ctx.saved_tensors
    if torch.is_grad_enabled():  # a second derivative was asked for
        s = accumulator(x)
        y, (rise, one) = _reference(s, ctx.eps), _rise(s, top[..., None])
        e = rise + one
        whole = rise.abs().where(s != -torch.inf, 0).sum(-1, keepdim=True) + ctx.eps * one
        return ((grad * (s > 0) - s.sign() * (grad * y).sum(-1, keepdim=True)) * e / whole).to(x.dtype), None
    return softpick_backward(grad, x, top, total), None


fused_softpick.register_autograd(_backward, setup_context=_save)
dispatch.register("softpick")
