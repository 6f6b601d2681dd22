"""Scalable-softmax: a softmax whose scores grow with the logarithm of the row's length, so that long rows do not flatten.

y = softmax((s log n + b) x), n the number of entries of the row that are not at -inf (masked); Nakanishi 2025, "Scalable-Softmax Is
Superior for Attention", where b = 0 is the definition and a learned b a variant of the experiments.
"""

import math

import torch
from torch import Tensor

from . import dispatch, layout
from .entmax import _shifted
from .layout import accumulator, like, moved
from .references import asks, gradients, masked, over_rows, whole
from .softmax import REFERENCES, softmax


def scalable_softmax(x: Tensor, s: float | Tensor, bias: float | Tensor = 0.0, dim: int = -1) -> Tensor:
    """Along `dim`, of the shape and dtype of `x` (float32, bfloat16, float16; any float in the reference).

    Args:
        x: scores of any shape; -inf masks an entry. A row of -inf alone gives zeros. Rows over 16,384 columns go through `softmax`.
        s: the scale, any real number; a tensor broadcasts against `x` with size 1 along `dim` and may require gradients.
        bias: added to s log n, as `s`.
        dim: the dimension that sums to one.
    """
    s, bias = (layout.rowwise(accumulator(v), x, dim, "scale and bias") if isinstance(v, Tensor) else v for v in (s, bias))
    x = moved(x, dim, -1)
    if x.shape[-1] == 0:
        y = x.clone()
    elif not dispatch.fused("scalable_softmax", x):
        y = _reference(x, s, bias)
    elif x.shape[-1] > layout.WIDEST // 2:  # the backward holds about twice as much as others
        y = _reference(x, s, bias, softmax)
    else:
        s, bias = (torch.as_tensor(v, dtype=torch.float32, device=x.device).expand(*x.shape[:-1], 1).squeeze(-1) for v in (s, bias))
        y = fused_scalable_softmax(x, s, bias)[0]
    return moved(y, -1, dim)


def _reference(x: Tensor, s: float | Tensor, bias: float | Tensor, softmax=None) -> Tensor:
    """`softmax` is that of the scaled scores; plain torch unless another is given."""
    z = accumulator(x)
    if softmax is None and not masked(z):
        y = over_rows(torch.softmax, z * (s * math.log(z.shape[-1]) + bias))
        if whole(y):  # a row of the lowest numbers, which the scale makes -inf, is NaN
            return like(y, x)
    z = _shifted(z)
    live = x != -torch.inf
    n = live.to(z.dtype).sum(-1, keepdim=True)
    scale = s * n.clamp_min(1).log() + bias
    if softmax is None and asks(z) and n.all() and (scale > 1e-30).logical_or(n == 1).all():
        scale = scale.where(n > 1, 1)  # an entry alone gets all the weight at any scale
        return like(over_rows(torch.softmax, z.clamp_min(torch.finfo(z.dtype).min) * scale), x)
    z = (z.where(live, 0) * scale).masked_fill(~live, -torch.inf)
    return like((softmax or REFERENCES["softmax"])(z), x)


@dispatch.kernel("scalable_softmax")
def fused_scalable_softmax(x: Tensor, s: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """The output, and the logarithm of each row's n, from float32 scales and biases of the shape of the rows."""
    from . import scalable_softmax_triton

    return scalable_softmax_triton.forward(x, s, bias)


@dispatch.kernel("scalable_softmax_backward")
def scalable_softmax_backward(grad: Tensor, x: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients in `x` and in each row's s log n + b."""
    from . import scalable_softmax_triton

    return scalable_softmax_triton.backward(grad, x, scale)


@fused_scalable_softmax.register_fake
def _(x, s, bias):
    return torch.empty(x.shape, dtype=x.dtype, device=x.device), torch.empty(x.shape[:-1], dtype=torch.float32, device=x.device)


@scalable_softmax_backward.register_fake
def _(grad, x, scale):
    return torch.empty(x.shape, dtype=x.dtype, device=x.device), torch.empty(x.shape[:-1], dtype=torch.float32, device=x.device)


def _save(ctx, inputs, output):
    ctx.save_for_backward(*inputs, output[1])


def _backward(ctx, grad, _):
    x, s, bias, log_n = ctx.saved_tensors
    if torch.is_grad_enabled():  # a second derivative was asked for
        return gradients(lambda x, s, b: _reference(x, s[..., None], b[..., None]), (x, s, bias), grad)
    d, slope = scalable_softmax_backward(grad, x, s * log_n + bias)
    return d, slope * log_n, slope


fused_scalable_softmax.register_autograd(_backward, setup_context=_save)
dispatch.register("scalable_softmax")
