"""Sharper probabilities, as methods make targets of that are guesses."""

import math

from torch import Tensor


def sharpened(p: Tensor, power: float) -> Tensor:
    """p^power, normalised, of probabilities (..., C) in float32."""
    if power * math.log(p.shape[-1]) > 69:  # the largest is at least 1 / C, and its power may be below e^-69, that is 1e-30: all might be 0
        p = p / p.amax(-1, keepdim=True)
    p = p**power
    return p / p.sum(-1, keepdim=True)
