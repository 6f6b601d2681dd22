"""Cosine annealing with an optional linear warm-up."""

import math

from runner import Duration, card

CARD = card(arxiv="1608.03983", source="Loshchilov & Hutter 2017, eq. 5, one cycle", off={"final": 1.0})


def build(warmup: Duration = "0it", final: float = 0.0):
    """Down half a cosine from 1 to `final`.

    Args:
        warmup: linear rise from 0 before it.
        final: in [0, 1]; factor at the end.
    """

    def make(clock):
        rise = clock.steps(warmup)
        fall = max(1, clock.total - rise)

        def factor(step):
            if step < rise:
                return (step + 1) / (rise + 1)
            return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rise) / fall)))

        return factor

    return make
