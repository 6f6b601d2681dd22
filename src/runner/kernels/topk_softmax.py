"""The k largest probabilities of a softmax and where they are, as routers of mixtures of experts and samplers need them.

Ties go to the lowest index. Shazeer et al. 2017, "Outrageously Large Neural Networks", section 2.1, is the renormalised form.
"""

import torch
from torch import Tensor

from . import dispatch
from .layout import accumulator, fits, like
from .references import asks
from .softmax import REFERENCES
from .softmax import softmax as kernel_softmax

MOST = 64


def topk_softmax(x: Tensor, k: int, *, temperature: float = 1.0, renormalise: bool = False) -> tuple[Tensor, Tensor]:
    """Probabilities in descending order and their int64 indices, both (..., k), from logits (..., n) along the last dimension.

    Args:
        x: logits (float32, bfloat16, float16; any float in the reference). A row of -inf alone has the probabilities 0.
            Rows over 32,768 columns go through `softmax`.
        k: 1 to n.
        temperature: positive; the logits are divided by it.
        renormalise: scale the k probabilities to sum to one, which is a softmax over the k largest logits.
    """
    if not 1 <= k <= x.shape[-1]:
        raise ValueError(f"k must lie between 1 and the {x.shape[-1]} columns, not {k}")
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, not {temperature}")
    if dispatch.fused("topk_softmax", x, f"more than {MOST} entries of a row" if k > MOST and not fits(x) else None):
        if not fits(x):
            return fused_topk_softmax(x, k, temperature, renormalise)[:2]
        softmax = kernel_softmax
    else:
        softmax = REFERENCES["softmax"]
    s = accumulator(x) if temperature == 1 else accumulator(x) / temperature
    if not renormalise and asks(x):
        p = softmax(s)
        values, best = p.detach().topk(min(k + 1, x.shape[-1]))
        if _falling(values):
            best = best[..., :k]
            return like(p.gather(-1, best) if p.requires_grad else values[..., :k], x), best
    best = _best(x.detach(), k)
    values = softmax(s.gather(-1, best)) if renormalise else softmax(s).gather(-1, best)
    return like(values, x), best


def _falling(values: Tensor) -> bool:
    """Whether no entry of a row is as large as the one before it."""
    return values.shape[-1] == 1 or (values.numel() > 0 and values.diff().amax().item() < 0)


def _best(x: Tensor, k: int) -> Tensor:
    """Indices of the k largest, ties in order: by integers that order like (value, -index), where there are ties."""
    if asks(x):
        values, best = x.topk(min(k + 1, x.shape[-1]))
        if _falling(values):
            return best[..., :k]
    if x.dtype == torch.float64:
        return x.sort(dim=-1, descending=True, stable=True).indices[..., :k]
    bits = (x.float() + 0.0).view(torch.int32).where(x == x, 0x7FFFFFFF)  # NaN of either sign first
    key = (bits ^ (bits >> 31 & 0x7FFFFFFF)).long() << 32
    return (key - torch.arange(x.shape[-1], device=x.device)).topk(k).indices


@dispatch.kernel("topk_softmax")
def fused_topk_softmax(x: Tensor, k: int, temperature: float, renormalise: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Values, indices, and the log-partition of each row less its maximum."""
    from . import topk_softmax_triton

    return topk_softmax_triton.forward(x, k, temperature, renormalise)


@dispatch.kernel("topk_softmax_backward")
def topk_softmax_backward(grad: Tensor, x: Tensor, values: Tensor, best: Tensor, log_z: Tensor, temperature: float, renormalise: bool) -> Tensor:
    from . import topk_softmax_triton

    return topk_softmax_triton.backward(grad, x, values, best, log_z, temperature, renormalise)


@fused_topk_softmax.register_fake
def _(x, k, temperature, renormalise):
    lead = x.shape[:-1]
    values = torch.empty(*lead, k, dtype=x.dtype, device=x.device)
    return values, torch.empty(*lead, k, dtype=torch.int64, device=x.device), torch.empty(lead, dtype=torch.float32, device=x.device)


@topk_softmax_backward.register_fake
def _(grad, x, values, best, log_z, temperature, renormalise):
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)


def _save(ctx, inputs, output):
    x, _, ctx.temperature, ctx.renormalise = inputs
    ctx.save_for_backward(x, *output)


def _backward(ctx, grad, *_):
    x, values, best, log_z = ctx.saved_tensors
    if not torch.is_grad_enabled():
        return topk_softmax_backward(grad, x, values, best, log_z, ctx.temperature, ctx.renormalise), None, None, None
    s, v, g = accumulator(x) / ctx.temperature, accumulator(values), accumulator(grad)  # a second derivative was asked for
    dot = (v * g).sum(-1, keepdim=True)
    d = torch.zeros_like(s).scatter(-1, best, v * (g - dot) if ctx.renormalise else v * g)
    if not ctx.renormalise:
        d = d - REFERENCES["softmax"](s) * dot
    return (d / ctx.temperature).to(x.dtype), None, None, None


fused_topk_softmax.register_autograd(_backward, setup_context=_save)
dispatch.register("topk_softmax")
