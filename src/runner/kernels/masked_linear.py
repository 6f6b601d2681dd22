"""A linear layer whose weight is masked while it is loaded: y = x (w * mask)^T + bias, with gradients of the kept weights alone.

The masked weight never lies in memory. Masked entries take no part: also one that is NaN or infinite counts as 0. What a layer under a
sparsity mask computes; the mask stays a constant to gradients.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from . import dispatch
from .references import kept


def masked_linear(x: Tensor, w: Tensor, mask: Tensor, bias: Tensor | None = None) -> Tensor:
    """(..., out) of the dtype of `x`; sums in float32. Second derivatives are right.

    Args:
        x: (..., in) of float32, bfloat16 or float16 (any float in the reference).
        w: (out, in), of the dtype of `x` outside autocast.
        mask: of the shape of `w`, bool or uint8; True or not zero keeps a weight.
        bias: (out,).
    """
    if mask.shape != w.shape or mask.dtype not in (torch.bool, torch.uint8):
        raise ValueError(f"the mask must be boolean or uint8 of shape {tuple(w.shape)}, not {mask.dtype} {tuple(mask.shape)}")
    x, w, bias = matched(x, w, bias)
    check(w, bias)
    if not dispatch.fused("masked_linear", x):
        return F.linear(x, kept(w, mask.bool()), bias)
    return fused_masked_product(flat(x), w.t(), mask.t(), bias, True).view(*x.shape[:-1], len(w))


def flat(x: Tensor) -> Tensor:
    """As rows, also where there are none."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def matched(x: Tensor, w: Tensor, *others: Tensor | None) -> tuple[Tensor | None, ...]:
    """As a linear layer takes them: all in autocast's dtype where that is on, else alike."""
    device = x.device.type
    if torch.is_autocast_enabled(device) and x.dtype != torch.float64:
        dtype = torch.get_autocast_dtype(device)
        return tuple(t if t is None else t.to(dtype) for t in (x, w, *others))
    for t in (w, *others):
        if t is not None and t.dtype != x.dtype:
            raise TypeError(f"inputs are {x.dtype} and weights {t.dtype}")
    if x.shape[-1] != w.shape[-1]:
        raise ValueError(f"inputs of shape {tuple(x.shape)} for weights of shape {tuple(w.shape)}")
    return x, w, *others


def check(w: Tensor, bias: Tensor | None) -> None:
    """A kernel would read beyond a bias that is too short, and torch would spread it."""
    if w.ndim != 2 or (bias is not None and bias.shape != w.shape[:1]):
        wanted = f"weights of two dimensions, not {tuple(w.shape)}" if w.ndim != 2 else f"a bias of shape ({len(w)},), not {tuple(bias.shape)}"
        raise ValueError(f"a linear layer takes {wanted}")


@dispatch.kernel("masked_product")
def fused_masked_product(a: Tensor, b: Tensor, mask: Tensor, bias: Tensor | None, operand: bool) -> Tensor:
    """a (b * mask) + bias, or (a b) * mask where the mask is not of the `operand`. Their gradients are such products again."""
    from . import masked_linear_triton

    return masked_linear_triton.product(a, b, mask, bias, operand)


@fused_masked_product.register_fake
def _(a, b, mask, bias, operand):
    return torch.empty(a.shape[0], b.shape[1], dtype=a.dtype, device=a.device)


def _save(ctx, inputs, output):
    *tensors, _, ctx.operand = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx, grad):
    a, b, mask = ctx.saved_tensors
    da = db = dbias = None
    if ctx.needs_input_grad[0]:
        da = fused_masked_product(grad, b.t(), mask.t(), None, True) if ctx.operand else fused_masked_product(b, grad.t(), mask.t(), None, True).t()
    if ctx.needs_input_grad[1]:
        db = fused_masked_product(a.t(), grad, mask, None, not ctx.operand)
    if ctx.needs_input_grad[3]:
        dbias = grad.sum(0)
    return da, db, None, dbias, None


fused_masked_product.register_autograd(_backward, setup_context=_save)
dispatch.register("masked_linear")
