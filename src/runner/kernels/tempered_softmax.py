"""The softmax with a temperature of Tsallis, whose tail is heavy: the reference of the bi-tempered loss.

Amid et al. 2019, "Robust Bi-Tempered Logistic Loss Based on Bregman Divergences", section 3 and algorithm 1.
"""

import torch
from torch import Tensor

from .entmax import entmax_gradient
from .references import applied, asks, over_rows
from .softmax import REFERENCES


def power_of(u: Tensor, n: float) -> Tensor:
    """u^n for u >= 0, with a slope for u > 0; on a CPU in half the time of torch's, and its gradient in a third."""
    return (u.log2() * n).exp2()


def _power_of_(u: Tensor, n: float) -> Tensor:
    """The same, on a CPU in place: new memory may take longer than the powers."""
    return u.log2_().mul_(n).exp2_() if asks(u) else power_of(u, n)


def log_t(u: Tensor, t: float) -> Tensor:
    """The inverse of exp_t(x) = (1 + (1 - t) x)^(1 / (1 - t)), the logarithm for t = 1."""
    return u.log() if t == 1 else (power_of(u, 1 - t) - 1) / (1 - t)


def tempered_softmax(s: Tensor, t: float, iterations: int, dead: bool = True) -> Tensor:
    """exp_t(s - level) = (1 + (1 - t) (s - level))^(1 / (1 - t)), t >= 1, with a level such that it sums to 1 over the last dimension.

    `dead` where a row may be -inf alone.
    """
    if t == 1:
        return REFERENCES["softmax"](s) if dead else over_rows(torch.softmax, s, strided=True)
    return applied(_Tempered, s, t, iterations, dead)


class _Tempered(torch.autograd.Function):
    """Its Jacobian is that of entmax with alpha = 2 - t: of the escort distribution p^t."""

    generate_vmap_rule = True

    @staticmethod
    def forward(s, t, iterations, dead):
        c, n = 1 - t, 1 / (1 - t)
        top = s.amax(-1, keepdim=True)
        z = (s - (top.masked_fill(top == -torch.inf, 0) if dead else top)) * c
        total = lambda each: each.sum(-1, keepdim=True)
        u = z + 1
        for _ in range(iterations):  # algorithm 1, with p = (z + base)^n, base = 1 - (1 - t) level
            u = (z * total(_power_of_(u, n)) ** c) + 1
        base = total(_power_of_(u, n)) ** -c
        for _ in range(2):  # Newton's steps
            u = z + base
            p = power_of(u, n)
            slope = total(p / u).mul_(n)
            base = base - (total(p) - 1) / (slope.where(slope < 0, -1) if dead else slope)
        return _power_of_(z + base, n)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.t = inputs[1]
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx, grad):
        (p,) = ctx.saved_tensors
        return entmax_gradient(p, grad, 2 - ctx.t), None, None, None
