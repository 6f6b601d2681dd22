"""A last linear layer and its cross entropy (or log-sum-exp) in one, so that the logits never lie in memory.

With z = hidden weight^T + bias: loss = log sum_c exp z_c - sum_c q_c z_c, q the smoothed target, which is cross_entropy(z, target). The kernels
go over blocks of classes, keep the log-partition of each row, and make the logits again in the backward, a strip of classes at a time
(Wijmans et al. 2024, "Cut Your Losses in Large-Vocabulary Language Models", algorithms 2 and 4; authors' code apple/ml-cross-entropy). The
reference cuts rows into pieces; where the reduction is known it makes the gradient with the loss (as Liger, Hsu et al. 2024).
Sums, the loss, and the accumulated gradients are float32 (float64 for float64).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from . import dispatch
from .cross_entropy import _reference, coefficients, nll, torchs
from .layout import accumulator
from .references import asks, finite, gradients
from .softmax import REFERENCES

FEW = 2**24  # logits that are not worth cutting


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    bias: Tensor | None = None,
    smoothing: float = 0.0,
    ignore_index: int = -100,
    reduction: str = "none",
    *,
    skip: bool = False,
) -> Tensor:
    """cross_entropy(hidden weight^T + bias, target). A second derivative is right but holds the logits.

    Args:
        hidden: (..., d) of float32, bfloat16 or float16 (any float in the reference).
        weight: (C, d), of the dtype of `hidden` outside autocast.
        target: class indices (...) of an integer type, or probabilities (..., C) of a float type, which take no gradient.
        bias: (C,). -inf excludes a class.
        smoothing: e in [0, 1]; q = (1 - e) target + e / C.
        ignore_index: a class index whose samples have the loss 0 and no gradient.
        reduction: none, sum, or mean (over the samples that are not ignored).
        skip: let the kernels leave out of the gradients the tiles whose |p - q| all are below eps / 32 of the dtype (2^-12 in bfloat16),
            as the paper does. The reference is exact.
    """
    if reduction not in ("none", "sum", "mean"):
        raise ValueError(f"reduction {reduction!r}: choose none, sum or mean")
    soft, lead = target.is_floating_point(), hidden.shape[:-1]
    target = target if soft else target.long()
    if target.shape != (*lead, *weight.shape[:1] * soft):
        raise ValueError(f"targets of shape {tuple(target.shape)} for hidden {tuple(hidden.shape)} and weight {tuple(weight.shape)}")
    if target.requires_grad:
        raise ValueError("targets take no gradient here: use cross_entropy on the logits")
    if not 0 <= smoothing <= 1:
        raise ValueError(f"smoothing must be in [0, 1], not {smoothing}")
    hidden, weight, bias = _matched(hidden, weight, bias)
    if len(lead) != 1:
        hidden, target = hidden.reshape(-1, hidden.shape[-1]), target.reshape(-1, *target.shape[len(lead) :])
    if dispatch.fused("linear_cross_entropy", hidden):
        loss = fused_linear_cross_entropy(hidden, weight, bias, target, None, None, smoothing, ignore_index, skip)[0]
    elif len(hidden) <= _piece(hidden, weight):
        loss = _whole(hidden, weight, bias, target, None, None, smoothing, ignore_index, reduction)
        return loss.view(lead) if len(lead) != 1 and reduction == "none" else loss
    elif reduction != "none" and torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in (hidden, weight, bias)):
        valid = torch.ones_like(target[:, 0]) if soft else target != ignore_index
        share = valid.to(accumulator(hidden[:0]).dtype)
        share = share / share.sum() if reduction == "mean" else share
        return _Pieces.apply(hidden, weight, bias, share, target, None, None, smoothing, ignore_index)
    else:
        loss = _Pieces.apply(hidden, weight, bias, None, target, None, None, smoothing, ignore_index)
    return loss.view(lead) if reduction == "none" else _reduced(loss, target, ignore_index, reduction)


def _reduced(loss: Tensor, target: Tensor, ignore_index: int, reduction: str) -> Tensor:
    if reduction == "mean":
        return loss.mean() if target.is_floating_point() else loss.sum() / (target != ignore_index).sum()
    return loss.sum() if reduction == "sum" else loss


def linear_logsumexp(hidden: Tensor, weight: Tensor, bias: Tensor | None = None, *, exclude: Tensor | None = None, ids: Tensor | None = None) -> Tensor:
    """log sum_c exp(hidden weight_c + bias_c) for each row, without the logits; what softmaxes over samples or shards of classes need.

    Args:
        hidden, weight, bias: as in `linear_cross_entropy`.
        exclude: (...) integers; the rows of `weight` whose id is that of the row of `hidden` are left out of its sum.
        ids: (C,) integers, the names of the rows of `weight` that `exclude` means; 0 to C - 1 if None. They may repeat.
    """
    hidden, *others = _shaped(hidden, weight, bias, exclude, ids)
    lead, hidden = hidden.shape[:-1], hidden.reshape(-1, hidden.shape[-1])
    if dispatch.fused("linear_cross_entropy", hidden):
        out = fused_linear_cross_entropy(hidden, *others[:2], None, *others[2:], 0.0, -100, False)[0]
    else:
        whole = len(hidden) <= _piece(hidden, weight)
        rest = (None, *others[2:], 0.0, -100)
        out = _whole(hidden, *others[:2], *rest) if whole else _Pieces.apply(hidden, *others[:2], None, *rest)
    return out.view(lead)


def linear_margin_loss(hidden: Tensor, weight: Tensor, own: Tensor, bias: Tensor | None, exclude: Tensor, ids: Tensor | None = None) -> Tensor:
    """log(exp own + exp linear_logsumexp) - own: cross entropy of classes of which the target, excluded from the others, has its logit apart."""
    rows = own.numel()
    if not 0 < rows <= _piece(hidden, weight) or dispatch.fused("linear_cross_entropy", hidden):
        return margin_loss(linear_logsumexp(hidden, weight, bias, exclude=exclude, ids=ids), own)
    hidden, *others = _shaped(hidden, weight, bias, exclude, ids)
    z = torch.cat([own.reshape(-1, 1), _logits(hidden.reshape(rows, -1), *others)], 1)
    first = torch.zeros(rows, dtype=torch.int64, device=own.device)
    return torchs(z, first, None, 0.0, -100, "none").view(own.shape)  # in half the time of a log-sum-exp


def _shaped(hidden: Tensor, weight: Tensor, bias: Tensor | None, exclude: Tensor | None, ids: Tensor | None) -> tuple[Tensor | None, ...]:
    """Matched; `exclude` as one dimension, with ids; the bias in the type of the sums: autocast would round it, corrections of a sample too."""
    given = bias
    hidden, weight, bias = _matched(hidden, weight, bias)
    bias = None if bias is None else given.to(torch.promote_types(hidden.dtype, torch.float32))
    if exclude is not None:
        exclude = exclude.flatten()
        ids = torch.arange(len(weight), device=weight.device) if ids is None else ids
        if exclude.numel() != math.prod(hidden.shape[:-1]) or ids.shape != weight.shape[:1]:
            raise ValueError(f"{exclude.numel()} classes to exclude, {ids.numel()} ids for hidden {tuple(hidden.shape)}, weight {tuple(weight.shape)}")
    return hidden, weight, bias, exclude, ids


def margin_loss(others: Tensor, own: Tensor) -> Tensor:
    """log(exp others + exp own) - own, from the log-sum-exp of the other classes and the target's own logit."""
    return torch.logaddexp(others - own, torch.zeros_like(own))


def _matched(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """As a linear layer takes them: in autocast's dtype where that is on. A kernel would read what other shapes do not hold."""
    if weight.ndim != 2 or hidden.shape[-1] != weight.shape[1] or (bias is not None and bias.shape != weight.shape[:1]):
        given = "" if bias is None else f" and bias {tuple(bias.shape)}"
        raise ValueError(f"hidden {tuple(hidden.shape)}, weight {tuple(weight.shape)}{given} do not fit")
    device = hidden.device.type
    if torch.is_autocast_enabled(device) and hidden.dtype != torch.float64:
        dtype = torch.get_autocast_dtype(device)
        return hidden.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    if weight.dtype != hidden.dtype:
        raise TypeError(f"hidden is {hidden.dtype} and weight {weight.dtype}")
    return hidden, weight, bias


# the reference


def _piece(hidden: Tensor, weight: Tensor) -> int:
    """How many rows of logits are no more than the larger of `hidden` and `weight`, or than 64 MiB of them."""
    return max(max(hidden.numel(), weight.numel(), FEW) // max(len(weight), 1), 1)


def _linear(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """In the dtype of the inputs, whatever autocast says."""
    if not torch.is_autocast_enabled(hidden.device.type):
        return F.linear(hidden, weight, bias)
    with torch.autocast(hidden.device.type, enabled=False):
        return F.linear(hidden, weight, bias)


def _whole(hidden: Tensor, weight: Tensor, bias: Tensor | None, target, exclude, ids, smoothing, ignore_index, reduction="none") -> Tensor:
    """All rows at once, in differentiable torch."""
    z = _logits(hidden, weight, bias, exclude, ids)
    full = bias is None or (asks(bias) and finite(bias))  # no class is excluded
    if target is None:
        return (z if full else z.masked_fill(z == -torch.inf, -torch.inf)).logsumexp(-1)  # which cuts off the gradients of a row of -inf alone
    if target.is_floating_point():  # torch refuses an index of a class beside them
        target, ignore_index = target.to(z.dtype), -100
    if full:
        return torchs(z, target, None, smoothing, ignore_index, reduction)
    return _reduced(_reference(z, target, None, smoothing, ignore_index), target, ignore_index, reduction)


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, exclude: Tensor | None, ids: Tensor | None) -> Tensor:
    z = _linear(accumulator(hidden), accumulator(weight), None if bias is None else accumulator(bias))
    return z if exclude is None else z.masked_fill(exclude[:, None] == ids, -torch.inf)


def _slopes(log_p: Tensor, target: Tensor | None, grad: Tensor, smoothing: float, ignore_index: int) -> Tensor:
    """Gradient in the logits, in place of the log-probabilities: (p sum(q) - q) grad, q over the classes that are not at -inf."""
    if target is None:
        return log_p.exp_().mul_(grad[:, None])
    if not target.is_floating_point():
        valid = target != ignore_index
        grad = grad.where(valid, 0)  # a mean over nothing has no number for it
    if target.is_floating_point() or smoothing:
        q = coefficients(log_p, target, None, smoothing, ignore_index).where(log_p != -torch.inf, 0)
        return log_p.exp_().mul_(q.sum(-1, keepdim=True)).sub_(q).mul_(grad[:, None])
    at = target.where(valid, 0)[:, None]
    share = grad[:, None].where(log_p.gather(-1, at) > -torch.inf, 0)
    return log_p.exp_().mul_(share).scatter_add_(-1, at, -share)


class _Pieces(torch.autograd.Function):
    """The reference over pieces of rows: the loss of each row, or its sum weighted by `share`, whose gradient is then made at once."""

    @staticmethod
    def forward(ctx, hidden, weight, bias, share, target, exclude, ids, smoothing, ignore_index):
        ctx.options = smoothing, ignore_index
        learns = ctx.needs_input_grad[:3]
        loss, made = _pass(hidden, weight, bias, target, exclude, ids, smoothing, ignore_index, share if any(learns) else None, learns)
        ctx.save_for_backward(hidden, weight, bias, share, target, exclude, ids, *made)
        return loss if share is None else (loss * share).sum()

    @staticmethod
    def backward(ctx, grad):
        *given, dh, dw, db = ctx.saved_tensors
        hidden, weight, bias, share, *rest = given
        learns = ctx.needs_input_grad[:3]
        if torch.is_grad_enabled():  # a second derivative was asked for
            inputs = (hidden, weight) if bias is None else (hidden, weight, bias)
            made = gradients(lambda *x: _whole(*x, *[None] * (3 - len(x)), *rest, *ctx.options), inputs, grad if share is None else grad * share)
            made = made + (None,) * (3 - len(made))
        elif share is None:
            made = _pass(hidden, weight, bias, *rest, *ctx.options, grad, learns)[1]
        else:
            made = tuple(None if d is None else d * grad for d in (dh, dw, db))
        return *(None if d is None else d.to(x.dtype) for d, x in zip(made, (hidden, weight, bias), strict=True)), *[None] * 6


def _pass(hidden, weight, bias, target, exclude, ids, smoothing, ignore_index, grad, learns):
    """The loss of each row and, if their `grad` is given, the gradients of what learns (else None), both in the accumulating type."""
    h, w, b = accumulator(hidden), accumulator(weight), None if bias is None else accumulator(bias)
    loss, made = h.new_empty(len(h)), [None] * 3
    if grad is not None:
        made = [torch.zeros_like(x) if learn else None for x, learn in zip((h, w, b), learns, strict=True)]
    excludes = exclude is not None or (b is not None and not (asks(b) and finite(b)))
    step = _piece(hidden, weight)
    for piece in (slice(at, at + step) for at in range(0, len(h), step)):
        z = _linear(h[piece], w, b)
        if exclude is not None:
            z.masked_fill_(exclude[piece, None] == ids, -torch.inf)
        if target is None:
            t, loss[piece] = None, z.logsumexp(-1)
            log_p = z.sub_(loss[piece, None].clamp_min(torch.finfo(z.dtype).min))
        else:
            t, log_p = target[piece], REFERENCES["log_softmax"](z) if excludes else z.log_softmax(-1)
            loss[piece] = nll(log_p, t, None, smoothing, ignore_index, excludes)
        if grad is None:
            continue
        d = _slopes(log_p, t, grad[piece], smoothing, ignore_index)
        if learns[0]:
            torch.mm(d, w, out=made[0][piece])
        if learns[1]:
            made[1].addmm_(d.T, h[piece])
        if learns[2]:
            made[2] += d.sum(0)
    return loss, made


# the kernels


@dispatch.kernel("linear_cross_entropy")
def fused_linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    target: Tensor | None,
    exclude: Tensor | None,
    ids: Tensor | None,
    smoothing: float,
    ignore_index: int,
    skip: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss (the log-sum-exp where there is no target), log-partition and sum of the target (over classes not at -inf) of each row."""
    from . import linear_cross_entropy_triton

    return linear_cross_entropy_triton.forward(hidden, weight, bias, target, exclude, ids, smoothing, ignore_index)


@dispatch.kernel("linear_cross_entropy_backward")
def linear_cross_entropy_backward(
    grad: Tensor,
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    target: Tensor | None,
    exclude: Tensor | None,
    ids: Tensor | None,
    log_z: Tensor,
    mass: Tensor,
    smoothing: float,
    ignore_index: int,
    skip: bool,
    learns: list[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients in hidden, weight and bias; empty where they are not wanted."""
    from . import linear_cross_entropy_triton

    return linear_cross_entropy_triton.backward(grad, hidden, weight, bias, target, exclude, ids, log_z, mass, smoothing, ignore_index, skip, learns)


@fused_linear_cross_entropy.register_fake
def _(hidden, weight, bias, target, exclude, ids, smoothing, ignore_index, skip):
    return tuple(torch.empty(hidden.shape[:1], dtype=torch.float32, device=hidden.device) for _ in range(3))


@linear_cross_entropy_backward.register_fake
def _(grad, hidden, weight, bias, target, exclude, ids, log_z, mass, smoothing, ignore_index, skip, learns):
    return tuple(
        torch.empty(x.shape if learn else (0,), dtype=x.dtype, device=x.device)
        for x, learn in zip((hidden, weight, hidden if bias is None else bias), learns, strict=True)
    )


def _save(ctx, inputs, output):
    *tensors, smoothing, ignore_index, ctx.skip = inputs
    ctx.options = smoothing, ignore_index
    ctx.save_for_backward(*tensors, *output[1:])


def _backward(ctx, grad, *_):
    *tensors, log_z, mass = ctx.saved_tensors
    hidden, weight, bias, *rest = tensors
    if torch.is_grad_enabled():  # a second derivative was asked for
        inputs = (hidden, weight) if bias is None else (hidden, weight, bias)
        made = gradients(lambda *x: _whole(*x, *[None] * (3 - len(x)), *rest, *ctx.options), inputs, grad)
        return *made, *[None] * (9 - len(made))
    learns = list(ctx.needs_input_grad[:3])
    made = linear_cross_entropy_backward(grad, *tensors, log_z, mass, *ctx.options, ctx.skip, learns)
    return *(d if learn else None for d, learn in zip(made, learns, strict=True)), *[None] * 6


fused_linear_cross_entropy.register_autograd(_backward, setup_context=_save)
dispatch.register("linear_cross_entropy")
