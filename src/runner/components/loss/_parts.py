"""What the classification losses share. Soft targets: the mean of the loss over labels drawn from the target, unless a loss says otherwise."""

import torch
from torch import Tensor
from torch.nn import functional as F

from runner.core.targets import expected, is_hard


def wide(x: Tensor) -> Tensor:
    """At least fp32."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """-sum_c t_c log p_c, per sample."""
    if is_hard(target) and logits.dim() == 2:
        return F.cross_entropy(logits, target, reduction="none")
    return -expected(logits.log_softmax(-1), target)
