"""Durations: `80ep` (epochs) or `500it` (steps), and the clock that turns them into steps."""

import math
import re
from dataclasses import dataclass

from runner.core.errors import UserError

DURATION = re.compile(r"\d{1,15}(\.\d+)?(ep|it)")
Duration = str  # annotates options of components that are durations


@dataclass(frozen=True)
class Clock:
    """The length of a run.

    Attributes:
        epoch: steps in an epoch.
        total: steps in the stretch that a schedule spans.
    """

    epoch: int
    total: int

    def steps(self, duration: str) -> int:
        """A duration in steps, rounded up."""
        return steps(duration, self.epoch)


def steps(duration: str, epoch: int) -> int:
    """A duration in steps, rounded up, where an epoch has `epoch` steps. Raises UserError."""
    if not DURATION.fullmatch(duration):
        raise UserError(f"{duration!r} is not a duration; write '80ep' for epochs or '500it' for steps")
    return math.ceil(float(duration[:-2]) * (epoch if duration.endswith("ep") else 1) - 1e-9)
