"""Fenchel-Young losses of sparsemax and entmax, per sample: 0 with no gradient once the label leads by a margin.

L(z, t) = <p - t, z> + H(p) - H(t) with p = entmax(z) and the Tsallis entropy H(p) = sum_i (p_i - p_i^alpha) / (alpha (alpha - 1)); its gradient
is p - t, and it is 0 just where p = t; Blondel, Martins & Niculae 2020, "Learning with Fenchel-Young Losses", and Peters, Niculae & Martins
2019, section 3.2. alpha = 2 is the sparsemax loss (Martins & Astudillo 2016, eq. 19) and alpha -> 1 the cross entropy less the entropy
of the target. A class whose logit is -inf counts as absent; as a label it costs inf.
"""

import torch
from torch import Tensor

from . import dispatch, layout
from .cross_entropy import broadcast_target, cross_entropy, cross_entropy_with_gradient, ignores, nll
from .entmax import _shifted, entmax
from .layout import accumulator
from .references import applied, asks, masked, root, with_gradient


def sparsemax_loss(logits: Tensor, target: Tensor, *, ignore_index: int = -100, gradient: bool = False) -> Tensor | tuple[Tensor, Tensor]:
    """`entmax_loss` with alpha = 2: 0 where the label leads every other class by 1."""
    return entmax_loss(logits, target, 2.0, ignore_index=ignore_index, gradient=gradient)


def entmax_loss(logits: Tensor, target: Tensor, alpha: float = 1.5, *, ignore_index: int = -100, gradient: bool = False) -> Tensor | tuple[Tensor, Tensor]:
    """Over the last dimension of `logits`; (...) in float32 (float64 for float64).

    Args:
        logits: (..., C) of float32, bfloat16 or float16 (any float in the reference). Rows over 8,192 classes go through `entmax`.
        target: class indices (...) of an integer type, or probabilities (..., C) of a float type. Leading dimensions broadcast.
        alpha: at least 1; a label that leads by 1 / (alpha - 1) costs nothing.
        ignore_index: a class index whose samples have the loss 0 and no gradient.
        gradient: also give the gradient of the sum in the logits, from the same pass; neither is then differentiable.
    """
    if not alpha >= 1:
        raise ValueError(f"alpha must be at least 1, not {alpha}")
    logits, target = broadcast_target(logits, target)
    if alpha == 1:
        return _shannon(logits, target, ignore_index, gradient)
    fused = dispatch.fused("entmax_loss", logits, "a target that requires gradients" if target.requires_grad else None)
    if fused and logits.shape[-1] <= layout.WIDEST // 4:  # the kernel holds a row, its targets and its search
        loss, grad = fused_entmax_loss(logits, target, float(alpha), ignore_index, gradient or (logits.requires_grad and torch.is_grad_enabled()))
        return (loss.detach(), grad.detach()) if gradient else loss
    if not gradient:
        return _reference(logits, target, alpha, ignore_index)
    return with_gradient(lambda x, t: _reference(x, t, alpha, ignore_index), logits, target)


def _shannon(logits: Tensor, target: Tensor, ignore_index: int, gradient: bool) -> Tensor | tuple[Tensor, Tensor]:
    grad = None
    if gradient:
        loss, grad = cross_entropy_with_gradient(logits, target, ignore_index=ignore_index)
    else:
        loss = cross_entropy(logits, target, ignore_index=ignore_index)
    if target.is_floating_point():
        loss = loss + torch.special.entr(target.to(loss.dtype)).neg().sum(-1)
    return (loss, grad) if gradient else loss


def _surprise(p: Tensor, alpha: float) -> Tensor:
    """Whose mean under p is its entropy."""
    power = p if alpha == 2 else root(p) if alpha == 1.5 else p.clamp_min(1e-30) ** (alpha - 1)  # finite in slope
    return (1 - power) / (alpha * (alpha - 1))


class _Conjugate(torch.autograd.Function):
    """max_p <p, z> + H(p), whose gradient is the maximiser, entmax(z); also gives that, as a constant."""

    generate_vmap_rule = True

    @staticmethod
    def forward(z, alpha):
        p = entmax(z, alpha)
        return (p * (z.clamp_min(torch.finfo(z.dtype).min) + _surprise(p, alpha))).sum(-1), p

    @staticmethod
    def setup_context(ctx, inputs, output):
        z, ctx.alpha = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(z, output[1])

    @staticmethod
    def backward(ctx, grad, _):
        z, p = ctx.saved_tensors
        return grad[..., None] * (entmax(z, ctx.alpha) if torch.is_grad_enabled() else p), None


def _reference(logits: Tensor, target: Tensor, alpha: float, ignore_index: int) -> Tensor:
    """In plain torch, or with the kernel of entmax."""
    s = accumulator(logits)
    dead = masked(s)
    z = s if target.requires_grad else _shifted(s)  # a shift is no matter where the target sums to 1
    if dead:
        z = z.masked_fill(z == -torch.inf, -torch.inf)  # which cuts gradients off
    loss = applied(_Conjugate, z, alpha)[0] + nll(z, target, None, 0.0, ignore_index, dead)
    if target.is_floating_point():
        t = target.to(s.dtype)
        return loss - (t * _surprise(t, alpha)).sum(-1)
    return loss.where(target != ignore_index, 0) if not asks(s) or ignores(target, ignore_index) else loss


@dispatch.kernel("entmax_loss")
def fused_entmax_loss(logits: Tensor, target: Tensor, alpha: float, ignore_index: int, gradient: bool) -> tuple[Tensor, Tensor]:
    """The loss of each row, and its gradient (empty unless asked for)."""
    from . import entmax_loss_triton

    return entmax_loss_triton.forward(logits, target, alpha, ignore_index, gradient)


@dispatch.kernel("entmax_loss_backward")
def entmax_loss_backward(grad: Tensor, slope: Tensor) -> Tensor:
    """Rows of `slope` times the numbers in `grad`."""
    from . import entmax_loss_triton

    return entmax_loss_triton.backward(grad, slope)


@fused_entmax_loss.register_fake
def _(logits, target, alpha, ignore_index, gradient):
    loss = torch.empty(logits.shape[:-1], dtype=torch.float32, device=logits.device)
    return loss, torch.empty(logits.shape if gradient else (0,), dtype=logits.dtype, device=logits.device)


@entmax_loss_backward.register_fake
def _(grad, slope):
    return torch.empty(slope.shape, dtype=slope.dtype, device=slope.device)


def _save(ctx, inputs, output):
    logits, target, ctx.alpha, ctx.ignore_index, _ = inputs
    ctx.save_for_backward(logits, target, output[1])


def _backward(ctx, grad, _):
    logits, target, slope = ctx.saved_tensors
    if torch.is_grad_enabled():  # a second derivative was asked for
        loss = _reference(logits, target, ctx.alpha, ctx.ignore_index)
        (d,) = torch.autograd.grad(loss, logits, grad, create_graph=True)
    else:
        d = entmax_loss_backward(grad, slope)
    return d, None, None, None, None


fused_entmax_loss.register_autograd(_backward, setup_context=_save)
dispatch.register("entmax_loss")
