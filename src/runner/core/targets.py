"""Training targets: class indices, or probabilities over the classes. Every loss takes both."""

import torch
from torch import Tensor
from torch.nn import functional as F


def is_hard(target: Tensor) -> bool:
    """Whether the target holds class indices (...) rather than probabilities (..., C)."""
    return not target.is_floating_point()


def soft(target: Tensor, classes: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """The target as probabilities (..., C)."""
    return F.one_hot(target, classes).to(dtype) if is_hard(target) else target.to(dtype)


def expected(values: Tensor, target: Tensor) -> Tensor:
    """The mean of class values under the target: sum_c target_c values_c.

    Args:
        values: (..., C).
        target: (...) class indices or (..., C) probabilities.

    Returns:
        (...).
    """
    if is_hard(target):
        return values.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    return (target * values).sum(-1)
