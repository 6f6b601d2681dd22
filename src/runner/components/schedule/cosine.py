"""Cosine annealing, with an optional linear warm-up and optional warm restarts."""

import math

from runner import Duration, card

CARD = card(arxiv="1608.03983", source="Loshchilov & Hutter 2017, eq. 5; restarts of equal length", off={"final": 1.0})


def build(warmup: Duration = "0it", final: float = 0.0, cycle: Duration | None = None):
    """Down half a cosine from 1 to `final`, once or again and again.

    Args:
        warmup: linear rise from 0 before it.
        final: in [0, 1]; factor at the end of a cycle.
        cycle: time from one restart to the next; the rest of the run if not given.
    """

    def make(clock):
        rise = clock.steps(warmup)
        fall = max(1, clock.steps(cycle) if cycle else clock.total - rise)

        def factor(step):
            if step < rise:
                return (step + 1) / (rise + 1)
            done = (step - rise) % fall if cycle else min(fall, step - rise)
            return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * done / fall))

        return factor

    return make
