"""Means and differences over paired seeds, with intervals; scipy's tests."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.95
MANY = 100_000  # no more seeds than these: a slip of the keyboard must not take the memory


@dataclass(frozen=True)
class Interval:
    """A mean of n values and its interval by Student's t; `low` and `high` are nan for one value."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def half(self) -> float:
        return (self.high - self.low) / 2


def interval(values, level: float = LEVEL) -> Interval:
    """Mean of one value a seed, with its interval."""
    x = np.asarray(list(values), dtype=float)
    if len(x) < 2:
        return Interval(float(x.mean()) if len(x) else math.nan, math.nan, math.nan, len(x))
    half = stats.t.ppf((1 + level) / 2, len(x) - 1) * stats.sem(x)
    return Interval(float(x.mean()), float(x.mean() - half), float(x.mean() + half), len(x))


def paired(a: dict[int, float], b: dict[int, float]) -> np.ndarray:
    """The differences a - b of the seeds that both have."""
    return np.array([a[seed] - b[seed] for seed in sorted(a.keys() & b.keys())])


def seeds(text: str) -> list[int]:
    """`0-4,10` -> [0, 1, 2, 3, 4, 10]. Raises ValueError, also for more than MANY."""
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        found += range(int(first), min(int(last), int(first) + MANY) + 1) if dash else [int(first)]
    if not 0 < len(found) <= MANY:
        raise ValueError(text)
    return found
