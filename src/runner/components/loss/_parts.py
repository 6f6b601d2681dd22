"""What the classification losses share. Soft targets: the mean of the loss over labels drawn from the target, unless a loss says otherwise."""

import torch
from torch import Tensor
from torch.nn import functional as F

from runner.core.targets import expected, is_hard, soft


def wide(x: Tensor) -> Tensor:
    """At least fp32."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """-sum_c t_c log p_c, per sample."""
    if is_hard(target) and logits.dim() == 2:
        return F.cross_entropy(logits, target, reduction="none")
    return -expected(logits.log_softmax(-1), target)


def reverse_cross_entropy(logits: Tensor, target: Tensor, floor: float) -> Tensor:
    """-sum_c p_c log max(t_c, floor)."""
    p = wide(logits).softmax(-1)
    return -(p * soft(target, p.shape[-1], p.dtype).clamp_min(floor).log()).sum(-1)


def focal(logits: Tensor, gamma: float) -> Tensor:
    """(1 - p_c)^gamma * -log p_c of every class (..., C)."""
    logp = wide(logits).log_softmax(-1)
    if not gamma:
        return -logp
    # 1 - p without cancellation, and away from 0, where a fractional power has no finite slope
    return -((-torch.expm1(logp)).clamp_min(1e-12) ** gamma) * logp
