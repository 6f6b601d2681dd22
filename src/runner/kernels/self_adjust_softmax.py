"""Self-adjust softmax: each weight of the softmax times its own score, so that the gradient does not vanish where the softmax saturates.

y = x softmax(x), or normalised y = (x - low) / (high - low) softmax(x) with low = min(min x, 0) and high = max(max x, 0); Zheng et al. 2025,
"Self-Adjust Softmax"; authors' code HKUDS/SepLLM (Training-SepLLM, megatron/model/transformer.py). Rows need not sum to one, and
the plain form can be negative. Minimum and maximum are over the entries that are not at -inf (masked) and take gradients, shared evenly
between ties. In a row of zeros, where the normalised form is 0 / 0, the weights are 0, as the authors' small constant has it.
"""

import torch
from torch import Tensor

from . import dispatch, layout
from .layout import accumulator, like, moved
from .references import asks, gradients, masked, over_rows, whole
from .softmax import REFERENCES, softmax


def self_adjust_softmax(x: Tensor, dim: int = -1, *, normalise: bool = True) -> Tensor:
    """Along `dim`, of the shape and dtype of `x` (float32, bfloat16, float16; any float in the reference).

    Args:
        x: scores of any shape; -inf masks an entry. A row of -inf alone gives zeros. Rows over 16,384 columns go through `softmax`.
        dim: the dimension of the softmax.
        normalise: scale the factors to [0, 1]; else the factors are the scores themselves.
    """
    x = moved(x, dim, -1)
    if x.shape[-1] == 0:
        y = x.clone()
    elif not dispatch.fused("self_adjust_softmax", x):
        y = _reference(x, normalise)
    elif x.shape[-1] > layout.WIDEST // 2:  # the backward holds about twice as much as others
        y = _reference(x, normalise, softmax)
    else:
        y = fused_self_adjust_softmax(x, normalise)
    return moved(y, -1, dim)


def _reference(x: Tensor, normalise: bool, softmax=None) -> Tensor:
    """`softmax` is plain torch unless another is given."""
    s = accumulator(x)
    if softmax is None and asks(s):
        if normalise:
            rise = torch.relu(-s.amin(-1, keepdim=True))
            y = (s + rise) / (torch.relu(s.amax(-1, keepdim=True)) + rise) * over_rows(torch.softmax, s)
            if whole(y):  # a row with a masked entry, or of zeros, is NaN
                return like(y, x)
        elif not masked(s):
            return like(s * over_rows(torch.softmax, s), x)
    p = (softmax or REFERENCES["softmax"])(s)
    live = s != -torch.inf
    bottom = s.where(live, torch.inf).amin(-1, keepdim=True) if normalise else s
    s = s.where(live, 0)
    if normalise:
        low, high = -torch.relu(-bottom), torch.relu(s.amax(-1, keepdim=True))
        width = high - low
        s = (s - low) / width.where(width != 0, 1)
    return like(s * p, x)


@dispatch.kernel("self_adjust_softmax")
def fused_self_adjust_softmax(x: Tensor, normalise: bool) -> Tensor:
    from . import self_adjust_softmax_triton

    return self_adjust_softmax_triton.forward(x, normalise)


@dispatch.kernel("self_adjust_softmax_backward")
def self_adjust_softmax_backward(grad: Tensor, x: Tensor, normalise: bool) -> Tensor:
    from . import self_adjust_softmax_triton

    return self_adjust_softmax_triton.backward(grad, x, normalise)


@fused_self_adjust_softmax.register_fake
def _(x, normalise):
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)


@self_adjust_softmax_backward.register_fake
def _(grad, x, normalise):
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)


def _save(ctx, inputs, output):
    x, ctx.normalise = inputs
    ctx.save_for_backward(x)


def _backward(ctx, grad):
    (x,) = ctx.saved_tensors
    if torch.is_grad_enabled():  # a second derivative was asked for
        return *gradients(lambda x: _reference(x, ctx.normalise), (x,), grad), None
    return self_adjust_softmax_backward(grad, x, ctx.normalise), None


fused_self_adjust_softmax.register_autograd(_backward, setup_context=_save)
dispatch.register("self_adjust_softmax")
