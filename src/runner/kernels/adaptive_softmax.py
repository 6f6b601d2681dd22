"""Softmax with a temperature that falls with its own entropy, so that long rows stay sharp.

y = softmax(b x), b = max(poly(H), 1) where H > 0.5 and 1 elsewhere, H the entropy of softmax(x) in nats; Velickovic, Perivolaropoulos,
Barbero & Pascanu 2024, "softmax is not enough (for sharp out-of-distribution)", the listing there without its 1e-9 within the
logarithm. Its polynomial was fitted to one model that retrieves a maximum; it exceeds 1 for entropies from about 0.8 to 5.9.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from . import dispatch, layout
from .layout import accumulator, like, moved
from .references import gradients, masked, over_rows
from .softmax import REFERENCES, log_softmax, softmax

POLYNOMIAL = (-0.037, 0.481, -2.3, 4.917, -1.791)  # of the paper, the highest power first


def adaptive_softmax(x: Tensor, dim: int = -1, *, polynomial: Sequence[float] = POLYNOMIAL, threshold: float = 0.5) -> Tensor:
    """Along `dim`, of the shape and dtype of `x` (float32, bfloat16, float16; any float in the reference). The gradient is that of the whole.

    Args:
        x: scores of any shape; -inf masks an entry. A row of -inf alone gives zeros. Rows over 16,384 columns go through `softmax`.
        dim: the dimension that sums to one.
        polynomial: coefficients of the inverse temperature in the entropy, the highest power first.
        threshold: entropy up to which rows keep the temperature 1.
    """
    polynomial = [float(c) for c in polynomial]
    x = moved(x, dim, -1)
    if x.shape[-1] == 0:
        y = x.clone()
    elif not dispatch.fused("adaptive_softmax", x):
        y = _reference(x, polynomial, threshold)
    elif x.shape[-1] > layout.WIDEST // 2:  # the backward holds about twice as much as others
        y = _reference(x, polynomial, threshold, kernels=True)
    else:
        y = fused_adaptive_softmax(x, polynomial, threshold)
    return moved(y, -1, dim)


def _reference(x: Tensor, polynomial: list[float], threshold: float, kernels: bool = False) -> Tensor:
    """In plain torch, or with the kernels of the softmax and its logarithm."""
    s = accumulator(x)
    if not kernels and not masked(s):
        log_p = surprise = over_rows(torch.log_softmax, s, strided=True)
    else:
        log_p = log_softmax(s) if kernels else REFERENCES["log_softmax"](s)
        surprise = log_p.masked_fill(log_p == -torch.inf, 0)
    entropy = -(log_p.exp() * surprise).sum(-1, keepdim=True)
    value = torch.zeros_like(entropy)
    for c in polynomial:
        value = value * entropy + c
    inverse = torch.where(entropy > threshold, value.clamp_min(1), 1)
    if surprise is log_p:
        return like(over_rows(torch.softmax, log_p * inverse), x)  # a row of the lowest numbers would overflow
    live = s != -torch.inf
    s = (surprise * inverse).masked_fill(~live, -torch.inf)
    return like(softmax(s) if kernels else REFERENCES["softmax"](s), x)


@dispatch.kernel("adaptive_softmax")
def fused_adaptive_softmax(x: Tensor, polynomial: Sequence[float], threshold: float) -> Tensor:
    from . import adaptive_softmax_triton

    return adaptive_softmax_triton.forward(x, polynomial, threshold)


@dispatch.kernel("adaptive_softmax_backward")
def adaptive_softmax_backward(grad: Tensor, x: Tensor, polynomial: Sequence[float], threshold: float) -> Tensor:
    from . import adaptive_softmax_triton

    return adaptive_softmax_triton.backward(grad, x, polynomial, threshold)


@fused_adaptive_softmax.register_fake
def _(x, polynomial, threshold):
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)


@adaptive_softmax_backward.register_fake
def _(grad, x, polynomial, threshold):
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)


def _save(ctx, inputs, output):
    x, ctx.polynomial, ctx.threshold = inputs
    ctx.save_for_backward(x)


def _backward(ctx, grad):
    (x,) = ctx.saved_tensors
    if torch.is_grad_enabled():  # a second derivative was asked for
        return *gradients(lambda x: _reference(x, ctx.polynomial, ctx.threshold), (x,), grad), None, None
    return adaptive_softmax_backward(grad, x, ctx.polynomial, ctx.threshold), None, None


fused_adaptive_softmax.register_autograd(_backward, setup_context=_save)
dispatch.register("adaptive_softmax")
