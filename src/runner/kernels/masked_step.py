"""Optimizer steps under a sparsity mask, in place and in one pass.

Each is the step of torch.optim after which the weights and the optimizer's state are 0 where the mask is, whatever they were (also NaN), so
that an entry that is pruned starts afresh should it ever come back. Arithmetic is in float32; every tensor keeps its dtype.
"""

import torch
from torch import Tensor

from . import dispatch
from .layout import accumulator
from .references import keep_


@torch.no_grad()
def masked_sgd_(
    param: Tensor,
    grad: Tensor,
    momentum_buffer: Tensor,
    mask: Tensor,
    *,
    lr: float,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    nesterov: bool = False,
) -> None:
    """SGD with momentum (torch.optim.SGD without dampening) on all of one shape; `mask` is boolean, the buffer starts as zeros."""
    tensors = (param, grad, momentum_buffer, mask)
    step = fused_sgd_ if dispatch.fused("masked_sgd", param, _unfit(*tensors)) else _sgd_
    step(*tensors, lr, momentum, weight_decay, nesterov)


@torch.no_grad()
def masked_adamw_(
    param: Tensor,
    grad: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    mask: Tensor,
    *,
    step: int,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
) -> None:
    """AdamW (Loshchilov & Hutter 2019, algorithm 2) on all of one shape; `step` counts from 1, both averages start as zeros."""
    if step < 1:
        raise ValueError(f"step counts from 1, not {step}")
    tensors = (param, grad, exp_avg, exp_avg_sq, mask)
    update = fused_adamw_ if dispatch.fused("masked_adamw", param, _unfit(*tensors)) else _adamw_
    update(*tensors, lr, *betas, eps, weight_decay, 1 - betas[0] ** step, 1 - betas[1] ** step)


def _unfit(first: Tensor, *others: Tensor) -> str | None:
    if any(x.shape != first.shape for x in others):
        raise ValueError(f"shapes differ: {', '.join(str(tuple(x.shape)) for x in (first, *others))}")
    if others[-1].dtype != torch.bool:
        raise ValueError(f"the mask must be boolean, not {others[-1].dtype}")
    every = (first, *others)
    if all(x.is_contiguous() for x in every) or (first.ndim == 4 and all(x.is_contiguous(memory_format=torch.channels_last) for x in every)):
        return None  # not strides: those of dimensions of size one differ where entries do not
    return "tensors that are not all dense in the same order"


def _sgd_(param, grad, buffer, mask, lr, momentum, weight_decay, nesterov):
    w, g, b = accumulator(param), accumulator(grad), accumulator(buffer)
    if weight_decay:
        g = g.add(w, alpha=weight_decay)
    b.mul_(momentum).add_(g)
    w.sub_(g.add(b, alpha=momentum) if nesterov else b, alpha=lr)
    _keep(mask, (param, w), (buffer, b))


def _adamw_(param, grad, exp_avg, exp_avg_sq, mask, lr, beta1, beta2, eps, weight_decay, correction1, correction2):
    w, g, m, v = (accumulator(x) for x in (param, grad, exp_avg, exp_avg_sq))
    m.lerp_(g, 1 - beta1)
    v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
    step = (v / correction2).clamp_min_(torch.finfo(v.dtype).tiny).sqrt_().add_(eps)  # torch's root of the zeros under the mask is slow
    w.mul_(1 - lr * weight_decay).addcdiv_(m, step, value=-lr / correction1)
    _keep(mask, (param, w), (exp_avg, m), (exp_avg_sq, v))


def _keep(mask: Tensor, *pairs: tuple[Tensor, Tensor]) -> None:
    """Store the masked new values; in float32 the two of a pair are one tensor."""
    for stored, new in pairs:
        keep_(new, mask)
        if new is not stored:
            stored.copy_(new)


@dispatch.kernel("masked_sgd_", mutates=("param", "buffer"))
def fused_sgd_(param: Tensor, grad: Tensor, buffer: Tensor, mask: Tensor, lr: float, momentum: float, weight_decay: float, nesterov: bool) -> None:
    from . import masked_step_triton

    masked_step_triton.sgd(param, grad, buffer, mask, lr, momentum, weight_decay, nesterov)


@dispatch.kernel("masked_adamw_", mutates=("param", "exp_avg", "exp_avg_sq"))
def fused_adamw_(
    param: Tensor,
    grad: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    mask: Tensor,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    correction1: float,
    correction2: float,
) -> None:
    from . import masked_step_triton

    masked_step_triton.adamw(param, grad, exp_avg, exp_avg_sq, mask, lr, beta1, beta2, eps, weight_decay, correction1, correction2)


@fused_sgd_.register_fake
def _(param, grad, buffer, mask, lr, momentum, weight_decay, nesterov):
    return None


@fused_adamw_.register_fake
def _(param, grad, exp_avg, exp_avg_sq, mask, lr, beta1, beta2, eps, weight_decay, correction1, correction2):
    return None


dispatch.register("masked_sgd")
dispatch.register("masked_adamw")
