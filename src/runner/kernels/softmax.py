"""Softmax, its logarithm, and softmax-plus-one, with temperature and masks.

y_i = exp(s_i) / sum_j exp(s_j) with scores s = x / temperature + mask. A row whose scores are all -inf has the softmax 0 (not NaN)
and the log-softmax -inf, with zero gradients. Sums are kept in float32 (float64 for float64); the result has the dtype of `x`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from . import dispatch
from .layout import accumulator, like
from .references import asks, finite, over_rows, whole


def softmax(x: Tensor, dim: int = -1, *, temperature: float | Tensor = 1.0, mask: Tensor | None = None, causal: bool = False) -> Tensor:
    """Softmax along `dim`, of the shape and dtype of `x` (float32, bfloat16, float16; any float in the reference).

    Args:
        x: logits of any shape.
        dim: the dimension that sums to one.
        temperature: positive; the logits are divided by it. A tensor broadcasts against `x` and may require gradients.
        mask: broadcasts against `x`. Boolean: True keeps an entry. Float: added to the scaled logits, and may require gradients.
        causal: entry (i, j) of the last two dimensions (q, k) is kept when j <= i + k - q. Needs `dim` to be the last.
    """
    return _normalise("softmax", x, dim, temperature, mask, causal)


def log_softmax(x: Tensor, dim: int = -1, *, temperature: float | Tensor = 1.0, mask: Tensor | None = None, causal: bool = False) -> Tensor:
    """Logarithm of `softmax`, computed without forming it. Arguments as there; masked entries are -inf and take no gradient."""
    return _normalise("log_softmax", x, dim, temperature, mask, causal)


def softmax_plus_one(x: Tensor, dim: int = -1, *, temperature: float | Tensor = 1.0, mask: Tensor | None = None, causal: bool = False) -> Tensor:
    """exp(s_i) / (1 + sum_j exp(s_j)): a row may sum to less than one. Miller 2023, "Attention is off by one". Arguments as `softmax`."""
    return _normalise("softmax_plus_one", x, dim, temperature, mask, causal)


def _softmax(s: Tensor) -> Tensor:
    y = over_rows(torch.softmax, s)
    if asks(s) and whole(y):  # a row of -inf is NaN
        return y
    dead = s.amax(-1, keepdim=True) == -torch.inf
    return s.masked_fill(dead, 0).softmax(-1).masked_fill(dead, 0)


def _log_softmax(s: Tensor) -> Tensor:
    if asks(s):
        y = over_rows(torch.log_softmax, s)
        if finite(y) if y.requires_grad else whole(y):  # -inf matters to gradients, else only rows of -inf do
            return y
    dead = s.amax(-1, keepdim=True) == -torch.inf
    return s.masked_fill(dead, 0).log_softmax(-1).masked_fill(s == -torch.inf, -torch.inf)


def _softmax_plus_one(s: Tensor) -> Tensor:
    return F.pad(s, (0, 1)).softmax(-1)[..., :-1]


REFERENCES = {"softmax": _softmax, "log_softmax": _log_softmax, "softmax_plus_one": _softmax_plus_one}


def scores(x: Tensor, temperature: float, mask: Tensor | None, causal: bool) -> Tensor:
    """x / temperature + mask in the accumulating type, along the last dimension."""
    s = accumulator(x)
    if temperature != 1:
        s = s / temperature
    if causal:
        q, k = x.shape[-2:]
        s = s.masked_fill(~torch.ones(q, k, dtype=torch.bool, device=x.device).tril(k - q), -torch.inf)
    if mask is None:
        return s
    return s.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else s + mask


def _normalise(kind: str, x: Tensor, dim: int, temperature: float | Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    if causal and (x.ndim < 2 or dim % x.ndim != x.ndim - 1):
        raise ValueError("causal needs at least two dimensions and dim=-1")
    given = x
    if isinstance(temperature, Tensor):
        x = accumulator(x)  # scores, which 16 bits could not hold
        x, temperature = like(x / temperature, x), 1.0
    elif not temperature > 0:
        raise ValueError(f"temperature must be positive, not {temperature}")
    if mask is not None:
        if mask.dtype != torch.bool and not mask.is_floating_point():
            raise TypeError(f"mask must be boolean or float, not {mask.dtype}")
        mask = mask.broadcast_to(x.shape).movedim(dim, -1)
    moved = dim not in (-1, x.ndim - 1)
    if moved:
        x = x.movedim(dim, -1)
    if x.shape[-1] == 0:
        y = like(x.clone(), given)
    elif dispatch.fused(kind, x):
        y = like(fused_softmax(x, mask, temperature, causal, kind), given)
    else:
        y = like(REFERENCES[kind](scores(x, temperature, mask, causal)), given)
    return y.movedim(-1, dim) if moved else y


@dispatch.kernel("softmax")
def fused_softmax(x: Tensor, mask: Tensor | None, temperature: float, causal: bool, kind: str) -> Tensor:
    from . import softmax_triton

    return softmax_triton.forward(kind, x, mask, temperature, causal)


@dispatch.kernel("family_backward")
def family_backward(y: Tensor, grad: Tensor, scale: float, alpha: float, kind: str) -> Tensor:
    """The backward of every mapping of the family: softmax's kinds, sparsemax and entmax."""
    from . import rows_triton

    return rows_triton.backward(kind, y, grad, scale, alpha)


@fused_softmax.register_fake
def _(x, mask, temperature, causal, kind):
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)


@family_backward.register_fake
def _(y, grad, scale, alpha, kind):
    return torch.empty(y.shape, dtype=y.dtype, device=y.device)


def _save(ctx, inputs, output):
    _, mask, ctx.temperature, _, ctx.kind = inputs
    ctx.save_for_backward(output)
    ctx.learnt_mask = mask is not None and mask.dtype != torch.bool


def _gradient(y: Tensor, grad: Tensor, kind: str) -> Tensor:
    """What the backward kernel computes, in differentiable torch."""
    y, grad = accumulator(y), accumulator(grad)
    if kind == "log_softmax":
        live = y > -torch.inf
        return grad.where(live, 0) - y.exp() * grad.where(live, 0).sum(-1, keepdim=True)
    return y * (grad - (y * grad).sum(-1, keepdim=True))


def _backward(ctx, grad):
    (y,) = ctx.saved_tensors
    learnt = ctx.learnt_mask and ctx.needs_input_grad[1]
    if torch.is_grad_enabled():
        d = _gradient(y, grad, ctx.kind)
    else:
        d = family_backward(y, grad, 1.0 if learnt else 1 / ctx.temperature, 0.0, ctx.kind)
        if not learnt:
            return d, None, None, None, None
    return (d / ctx.temperature).to(y.dtype), d if learnt else None, None, None, None


fused_softmax.register_autograd(_backward, setup_context=_save)
for _kind in REFERENCES:
    dispatch.register(_kind)
