"""Phases: stretches of a run with work to do between them, such as a warm-up after which a transition matrix is estimated.

A list, not a generator: what happens between two phases is `begin` of the later one, so a resumed run goes on inside its phase and
never repeats the work before it.
"""

from collections.abc import Callable
from dataclasses import dataclass

from runner.core.clock import Clock
from runner.core.errors import UserError


@dataclass(frozen=True)
class Phase:
    """A stretch of a run.

    Attributes:
        name: shown in logs.
        length: a duration; None for what is left of `trainer.duration`.
        begin: called with the state when the phase starts; not again when a run resumes inside it.
        fresh: start with a new optimizer and a new schedule that spans this phase (and those after it that are not fresh).
    """

    name: str
    length: str | None = None
    begin: Callable | None = None
    fresh: bool = False


def lengths(phases: list[Phase], clock: Clock) -> list[int]:
    """Steps of each phase; phases without a length share equally what the others leave of the run. Raises UserError where they leave nothing."""
    fixed = [None if p.length is None else clock.steps(p.length) for p in phases]
    free = [k for k, n in enumerate(fixed) if n is None]
    left = clock.total - sum(n for n in fixed if n is not None)
    if free and left <= 0 < clock.total:
        taken = " and ".join(f"'{p.name}' ({n} steps)" for p, n in zip(phases, fixed, strict=True) if n)
        raise UserError(f"trainer.duration is {clock.total} steps: phase {taken} leaves nothing of them for phase '{phases[free[0]].name}'")
    for place, k in enumerate(free):
        fixed[k] = left * (place + 1) // len(free) - left * place // len(free)
    return fixed


def span(phases: list[Phase], current: int) -> tuple[int, int]:
    """The stretch of phases that shares the current one's optimizer and schedule: first, last + 1."""
    first = next((k for k in range(current, 0, -1) if phases[k].fresh), 0)
    last = next((k for k in range(current + 1, len(phases)) if phases[k].fresh), len(phases))
    return first, last
