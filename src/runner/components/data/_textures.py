"""Grounds for drawn images."""

import torch
from torch import nn


def smooth(n: int, size: int, cells: int, generator: torch.Generator):
    """(n, size, size), noise that varies over size / cells pixels, with a deviation of about 1."""
    coarse = torch.randn(n, 1, cells, cells, generator=generator)
    fine = nn.functional.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=True)[:, 0]
    return fine / fine.std().clamp_min(1e-6)
