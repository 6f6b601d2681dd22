"""Warm-up, stable, decay: constant for most of the run, and quickly down at its end."""

import math
from typing import Literal

from runner import Duration, card

CARD = card(
    paper="wsd2024", arxiv="2404.06395",
    source="Hu et al. 2024 (MiniCPM), section 4.2; cooldowns of Hägele et al. 2024 (2405.18392), authors' code epfml/schedules-and-scaling src/optim/utils.py",
    off={"final": 1.0},
)  # fmt: skip


def build(warmup: Duration = "0it", decay: float | Duration = 0.1, shape: Literal["1-sqrt", "linear"] = "1-sqrt", final: float = 0.0):
    """1 between the warm-up and the decay, in which it falls from 1 to `final` as 1 - sqrt(x) or 1 - x, x the share of the decay that is done.

    Args:
        warmup: linear rise from 0 before it.
        decay: in [0, 1]; length of the decay, a share of the run (0.1 in MiniCPM, 0.2 does a little better in Hägele et al.) or a duration.
        shape: of the decay; Hägele et al. found 1-sqrt better than linear.
        final: in [0, 1]; factor at the end.
    """

    def make(clock):
        rise = clock.steps(warmup)
        fall = min(clock.total - rise, clock.steps(decay) if isinstance(decay, str) else int(decay * clock.total + 1e-9))
        hold = clock.total - fall

        def factor(step):
            if step < rise:
                return (step + 1) / (rise + 1)
            if step < hold or fall <= 0:
                return 1.0
            done = min(1.0, (step - hold) / fall)
            return final + (1 - final) * (1 - (done if shape == "linear" else math.sqrt(done)))

        return factor

    return make
