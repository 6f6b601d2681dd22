"""Top-n-sigma: keep the logits of a row within n standard deviations of its maximum; as a mask, or fused with the softmax over them.

Kept are x_i >= max - n sigma; Tang et al. 2024, "Top-n-sigma: Not All Logits Are You Need". As in the authors' code
(Tomorrowdawn/top_nsigma, eval_code/my_sampler.py) sigma divides by the number of entries less one; here entries at -inf count as masked: they
are left out of sigma and never kept. The maximum is always kept, so that equal logits, where sigma is 0, all are. The choice does not
depend on a temperature, and is a constant to gradients.
"""

import torch
from torch import Tensor

from . import dispatch, layout
from .layout import accumulator, like, moved
from .references import asks, finite
from .softmax import REFERENCES, family_backward, softmax


def top_n_sigma_mask(x: Tensor, n: float, dim: int = -1) -> Tensor:
    """Boolean mask of the shape of `x`: True within `n` (at least 0) standard deviations of the maximum along `dim`."""
    x = _checked(x.detach(), n, dim)
    if dispatch.fused("top_n_sigma_mask", x, layout.fits(x)):
        keep = fused_top_n_sigma_mask(x, n)
    else:
        s = accumulator(x)
        keep = ~_below(s, n) & (s != -torch.inf)
    return moved(keep, -1, dim)


def top_n_sigma_softmax(x: Tensor, n: float, dim: int = -1, *, temperature: float = 1.0) -> Tensor:
    """Softmax over the kept logits, exact zeros elsewhere; shape and dtype of `x` (float32, bfloat16, float16; any float in the reference).

    Args:
        x: logits of any shape. A row of -inf alone gives zeros. Rows over 32,768 columns go through `softmax`.
        n: at least 0; standard deviations below the maximum.
        dim: the dimension that sums to one.
        temperature: positive; the logits are divided by it.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, not {temperature}")
    x = _checked(x, n, dim)
    if x.shape[-1] == 0:
        y = x.clone()
    elif not dispatch.fused("top_n_sigma_softmax", x):
        y = _reference(x, n, temperature, REFERENCES["softmax"])
    elif x.shape[-1] > layout.WIDEST:
        y = _reference(x, n, temperature, softmax)
    else:
        y = fused_top_n_sigma_softmax(x, n, temperature)
    return moved(y, -1, dim)


def _checked(x: Tensor, n: float, dim: int) -> Tensor:
    if not n >= 0:
        raise ValueError(f"n must be at least 0, not {n}")
    return moved(x, dim, -1)


def _reference(x: Tensor, n: float, temperature: float, softmax) -> Tensor:
    s = accumulator(x)
    kept = s.masked_fill(_below(s.detach(), n), -torch.inf)
    return like(softmax(kept / temperature if temperature != 1 else kept), x)


def _below(s: Tensor, n: float) -> Tensor:
    """Which entries lie under the threshold."""
    if s.shape[-1] == 0:
        return torch.zeros_like(s, dtype=torch.bool)
    mean = s.mean(-1, keepdim=True)
    off, others = s - mean, max(s.shape[-1] - 1, 1)
    if not asks(s) or not finite(mean):
        live = s != -torch.inf
        count = live.sum(-1, keepdim=True)
        off = (s - s.where(live, 0).sum(-1, keepdim=True) / count.clamp_min(1)).where(live, 0)
        others = (count - 1).clamp_min(1)
    sigma = (off.square_().sum(-1, keepdim=True) / others).sqrt_()
    return s < s.amax(-1, keepdim=True) - n * sigma


@dispatch.kernel("top_n_sigma_mask")
def fused_top_n_sigma_mask(x: Tensor, n: float) -> Tensor:
    from . import top_n_sigma_triton

    return top_n_sigma_triton.mask(x, n)


@dispatch.kernel("top_n_sigma_softmax")
def fused_top_n_sigma_softmax(x: Tensor, n: float, temperature: float) -> Tensor:
    from . import top_n_sigma_triton

    return top_n_sigma_triton.softmax(x, n, temperature)


@fused_top_n_sigma_mask.register_fake
def _(x, n):
    return torch.empty(x.shape, dtype=torch.bool, device=x.device)


@fused_top_n_sigma_softmax.register_fake
def _(x, n, temperature):
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)


def _save(ctx, inputs, output):
    ctx.temperature = inputs[2]
    ctx.save_for_backward(output)


def _backward(ctx, grad):
    (y,) = ctx.saved_tensors
    if torch.is_grad_enabled():  # a second derivative was asked for
        p, g = accumulator(y), accumulator(grad)
        return (p * (g - (p * g).sum(-1, keepdim=True)) / ctx.temperature).to(y.dtype), None, None
    return family_backward(y, grad, 1 / ctx.temperature, 0.0, "top_n_sigma_softmax"), None, None


fused_top_n_sigma_softmax.register_autograd(_backward, setup_context=_save)
dispatch.register("top_n_sigma_mask")
dispatch.register("top_n_sigma_softmax")
