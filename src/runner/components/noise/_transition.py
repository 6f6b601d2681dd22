"""Class-conditional label noise: every such model is a transition matrix T[y, y'] = P(noisy y' | clean y)."""

import torch
from torch import Tensor


def draw(y: Tensor, matrix: Tensor, generator: torch.Generator) -> Tensor:
    """Noisy labels (n,) drawn from the rows of a transition matrix (C, C) of the clean ones (n,)."""
    levels = matrix.double().cumsum(-1)[y]
    u = torch.rand(len(y), 1, generator=generator, dtype=torch.float64) * levels[:, -1:]
    return (u >= levels).sum(-1).clamp_max(matrix.shape[-1] - 1)
