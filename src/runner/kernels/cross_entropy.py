"""Cross entropy from logits, with hard or soft targets, per sample.

loss = - sum_c w_c q_c log softmax(x)_c, where q = (1 - e) target + e / C is the smoothed target (Szegedy et al. 2016, section 7) and w are
class weights; the same as torch.nn.functional.cross_entropy, but with the classes last, leading dimensions that broadcast, and the loss of
half-precision logits in float32. The kernel keeps one number a row for the backward, which reads the logits once more and writes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from . import dispatch
from .layout import accumulator
from .references import asks, finite, masked, over_rows, with_gradient
from .softmax import REFERENCES


def cross_entropy(
    logits: Tensor,
    target: Tensor,
    *,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    reduction: str = "none",
) -> Tensor:
    """Cross entropy over the last dimension of `logits`.

    Args:
        logits: (..., C) of float32, bfloat16 or float16 (any float in the reference). -inf excludes a class.
        target: class indices (...) of an integer type, or probabilities (..., C) of a float type. Leading dimensions broadcast.
        weight: (C,) class weights.
        label_smoothing: e in [0, 1].
        ignore_index: a class index whose samples have the loss 0 and no gradient.
        reduction: none, sum, or mean. As in torch, the mean over hard targets is weighted, and leaves ignored samples out.
    """
    if reduction not in ("none", "sum", "mean"):
        raise ValueError(f"reduction {reduction!r}: choose none, sum or mean")
    check_options(logits, weight, label_smoothing)
    logits, target = broadcast_target(logits, target)
    loss = _loss(logits, target, weight, label_smoothing, ignore_index)
    if reduction == "sum":
        return loss.sum()
    if reduction == "mean":
        if target.is_floating_point():
            return loss.mean()
        valid = target != ignore_index
        share = valid.to(loss.dtype) if weight is None else weight.to(loss.dtype)[target.where(valid, 0)].where(valid, 0)
        return loss.sum() / share.sum()
    return loss


def cross_entropy_with_gradient(
    logits: Tensor, target: Tensor, *, weight: Tensor | None = None, label_smoothing: float = 0.0, ignore_index: int = -100
) -> tuple[Tensor, Tensor]:
    """The loss of each sample and its gradient in the logits, from one pass over rows that fit. Not differentiable.

    Arguments as `cross_entropy`.
    """
    check_options(logits, weight, label_smoothing)
    logits, target = (x.detach() for x in broadcast_target(logits, target))
    weight = None if weight is None else weight.detach()
    if dispatch.fused("cross_entropy", logits):
        loss, _, _, grad = fused_cross_entropy(logits, target, weight, label_smoothing, ignore_index, True)
        return loss, grad
    return with_gradient(lambda x, t, w: _reference(x, t, w, label_smoothing, ignore_index), logits, target, weight)


def check_options(logits: Tensor, weight: Tensor | None, smoothing: float) -> None:
    """A kernel would read weights that are not there."""
    if weight is not None and weight.shape != logits.shape[-1:]:
        raise ValueError(f"class weights of shape {tuple(weight.shape)} for {logits.shape[-1]} classes")
    if not 0 <= smoothing <= 1:
        raise ValueError(f"label smoothing must be in [0, 1], not {smoothing}")


def broadcast_target(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Both over the same leading dimensions; class indices as int64, which torch takes."""
    soft = target.is_floating_point()
    target = target if soft or target.dtype == torch.int64 else target.long()
    if target.shape == (logits.shape if soft else logits.shape[:-1]):
        return logits, target
    if soft and target.shape[-1] != logits.shape[-1]:
        raise ValueError(f"soft targets over {target.shape[-1]} classes for logits over {logits.shape[-1]}")
    lead = torch.broadcast_shapes(logits.shape[:-1], target.shape[:-1] if soft else target.shape)
    return logits.expand(*lead, logits.shape[-1]), target.expand(*lead, logits.shape[-1]) if soft else target.expand(lead)


def ignores(target: Tensor, ignore_index: int) -> bool:
    """Whether a class index is the ignored one; a negative one is less than all classes."""
    return bool((target == ignore_index).any()) if ignore_index >= 0 else target.numel() > 0 and target.amin().item() <= ignore_index


def _loss(logits: Tensor, target: Tensor, weight: Tensor | None, smoothing: float, ignore_index: int) -> Tensor:
    learnt = target.requires_grad or (weight is not None and weight.requires_grad)
    if dispatch.fused("cross_entropy", logits, "a target or weight that requires gradients" if learnt else None):
        return fused_cross_entropy(logits, target, weight, smoothing, ignore_index, False)[0]
    return _reference(logits, target, weight, smoothing, ignore_index)


def coefficients(logits: Tensor, target: Tensor, weight: Tensor | None, smoothing: float, ignore_index: int) -> Tensor:
    """The factor of each -log p: w q. In the type of the sums, whatever that of the target and the weights."""
    dtype = torch.promote_types(logits.dtype, torch.float32)
    if target.is_floating_point():
        q = target.to(dtype)
    else:
        valid = (target != ignore_index)[..., None]
        hot = target.where(valid[..., 0], 0)[..., None]
        q = torch.zeros_like(logits, dtype=dtype).scatter(-1, hot, 1)
    if smoothing:
        q = (1 - smoothing) * q + smoothing / logits.shape[-1]
    if weight is not None:
        q = q * weight.to(dtype)
    return q if target.is_floating_point() else q.where(valid, 0)


def _reference(logits: Tensor, target: Tensor, weight: Tensor | None, smoothing: float, ignore_index: int) -> Tensor:
    s = accumulator(logits)
    if asks(s):
        hard = not target.is_floating_point()
        if hard and target.ndim == 1 and s.ndim == 2 and (weight is None or not weight.requires_grad):
            loss = torchs(s, target, None if weight is None else weight.to(s.dtype), smoothing, ignore_index, "none")
        else:
            loss = nll(over_rows(torch.log_softmax, s, strided=True), target, weight, smoothing, ignore_index)
        learns = loss.requires_grad
        if finite(loss, and_not_zero=learns):
            return loss
        hidden = hard and learns and ignores(target, ignore_index) and masked(s)  # a row of -inf, by its loss of 0
        if learns and finite(loss) and not hidden:
            return loss
    return nll(REFERENCES["log_softmax"](s), target, weight, smoothing, ignore_index, masked=True)


def torchs(s: Tensor, target: Tensor, weight: Tensor | None, smoothing: float, ignore_index: int, reduction: str) -> Tensor:
    """torch's own of (rows, classes), which knows nothing of classes at -inf."""
    if smoothing or target.is_floating_point():
        return F.cross_entropy(s, target, weight, ignore_index=ignore_index, reduction=reduction, label_smoothing=smoothing)
    return F.nll_loss(over_rows(torch.log_softmax, s, strided=True), target, weight, ignore_index=ignore_index, reduction=reduction)


def nll(log_p: Tensor, target: Tensor, weight: Tensor | None, smoothing: float, ignore_index: int, masked: bool = False) -> Tensor:
    """- sum w q log p. If `masked`, classes at -inf that have no share of the target are left out."""
    if target.is_floating_point() or smoothing or weight is not None:
        q = coefficients(log_p, target, weight, smoothing, ignore_index)
        return -(q * (log_p.where(q != 0, 0) if masked else log_p)).sum(-1)
    if target.ndim == 1:
        return F.nll_loss(log_p, target, ignore_index=ignore_index, reduction="none")
    loss = F.nll_loss(log_p.reshape(-1, log_p.shape[-1]), target.reshape(-1), ignore_index=ignore_index, reduction="none")
    return loss.view(target.shape)


@dispatch.kernel("cross_entropy")
def fused_cross_entropy(
    logits: Tensor, target: Tensor, weight: Tensor | None, smoothing: float, ignore_index: int, gradient: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Loss, log-partition and sum of the coefficients (of classes not at -inf) of each row, and the gradient (empty unless asked for)."""
    from . import cross_entropy_triton

    return cross_entropy_triton.forward(logits, target, weight, smoothing, ignore_index, gradient)


@dispatch.kernel("cross_entropy_backward")
def cross_entropy_backward(
    grad: Tensor, logits: Tensor, target: Tensor, weight: Tensor | None, log_z: Tensor, mass: Tensor, smoothing: float, ignore_index: int
) -> Tensor:
    from . import cross_entropy_triton

    return cross_entropy_triton.backward(grad, logits, target, weight, log_z, mass, smoothing, ignore_index)


@fused_cross_entropy.register_fake
def _(logits, target, weight, smoothing, ignore_index, gradient):
    loss, log_z, mass = (torch.empty(logits.shape[:-1], dtype=torch.float32, device=logits.device) for _ in range(3))
    return loss, log_z, mass, torch.empty(logits.shape if gradient else (0,), dtype=logits.dtype, device=logits.device)


@cross_entropy_backward.register_fake
def _(grad, logits, target, weight, log_z, mass, smoothing, ignore_index):
    return torch.empty(logits.shape, dtype=logits.dtype, device=logits.device)


def _save(ctx, inputs, output):
    logits, target, weight, ctx.smoothing, ctx.ignore_index, _ = inputs
    ctx.save_for_backward(logits, target, weight, *output[1:3])


def _backward(ctx, grad, *_):
    logits, target, weight, log_z, mass = ctx.saved_tensors
    if torch.is_grad_enabled():  # a second derivative was asked for
        q = coefficients(logits, target, weight, ctx.smoothing, ctx.ignore_index).where(logits != -torch.inf, 0)
        p = REFERENCES["softmax"](accumulator(logits))
        d = (grad[..., None] * (p * q.sum(-1, keepdim=True) - q)).to(logits.dtype)
    else:
        d = cross_entropy_backward(grad, logits, target, weight, log_z, mass, ctx.smoothing, ctx.ignore_index)
    return d, None, None, None, None, None


fused_cross_entropy.register_autograd(_backward, setup_context=_save)
dispatch.register("cross_entropy")
