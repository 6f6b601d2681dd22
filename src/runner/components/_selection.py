"""Selecting samples by their losses: what methods that leave out suspicious labels share."""

import torch
from torch import Tensor


def forget_rate(state, rate: float, ramp: str, exponent: float = 1.0) -> float:
    """The share of samples left out in the current epoch T = 1, 2, ...: rate * min(T^exponent / T_k, 1), with T_k epochs in `ramp`."""
    length = state.clock.steps(ramp) / state.clock.epoch
    epoch = state.step // state.clock.epoch + 1
    return rate * min(epoch**exponent / length, 1.0) if length else rate


def smallest(losses: Tensor, share: float) -> Tensor:
    """1 for the floor(share * B) smallest losses (B,), at least one, and 0 for the others."""
    kept = max(1, int(share * len(losses) + 1e-9))
    chosen = torch.zeros_like(losses)
    chosen[losses.argsort(stable=True)[:kept]] = 1
    return chosen


def only(losses: Tensor, chosen: Tensor) -> Tensor:
    """The losses of the chosen samples, scaled so that the mean over the batch is the mean over the chosen; zeros for the others."""
    return losses * (chosen * (len(chosen) / chosen.sum().clamp_min(1)))
