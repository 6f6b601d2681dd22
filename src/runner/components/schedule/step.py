"""The learning rate drops by a factor at each milestone, after an optional linear warm-up."""

import math

from runner import Duration, card

CARD = card(source="He et al. 2016 (1512.03385), section 4.2: a tenth at half and at three quarters of a CIFAR run", off={"gamma": 1.0})


def build(milestones: list[Duration] | list[float] = (0.5, 0.75), gamma: float = 0.1, warmup: Duration = "0it"):
    """gamma ** (milestones passed), times (step + 1) / (rise + 1) during the warm-up.

    Args:
        milestones: in [0, 1]; shares of the run, or durations such as 60ep.
        gamma: in (0, 1]; factor of each drop.
        warmup: linear rise from 0 at the beginning.
    """

    def make(clock):
        marks = [clock.steps(m) if isinstance(m, str) else math.ceil(m * clock.total - 1e-9) for m in milestones]
        rise = clock.steps(warmup)
        return lambda step: min(1.0, (step + 1) / (rise + 1)) * gamma ** sum(mark <= step for mark in marks)

    return make
