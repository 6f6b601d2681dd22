"""Whether claims hold on paired seeds: held, refuted, or undecided and how many seeds further would tell."""

import itertools
import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
from scipy import stats

from runner.core.errors import Stopped, UserError
from runner.execution.plan import Plan
from runner.report import cells, claims
from runner.report.claims import Claim, Comparison
from runner.report.statistics import LEVEL, interval

WORDS = ("refuted", "undecided", "held")  # the worst first
FAR = 1000  # no more seeds than these are asked for


@dataclass(frozen=True)
class Made:
    """Where a verdict's numbers come from: seconds of the runs that no earlier claim of the recipe needed, and the newest of all its runs."""

    seconds: float = 0.0
    date: str = ""
    commit: str = ""
    torch: str = ""


@dataclass(frozen=True)
class Verdict:
    """What became of a claim.

    Attributes:
        verdict: one of WORDS.
        effect: mean of what the claim compares with `threshold` (of `a - b >= 5`: a - b), with its two-sided 95 % interval from `low` to `high`.
            Of a claim of several comparisons the one that is furthest from holding. None without values, no interval on one seed.
        needed: how many further seeds would probably decide it; None if that is unknown, or more than FAR.
        reason: why it is undecided.
    """

    claim: Claim
    scale: str
    seeds: list[int]
    verdict: str
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    threshold: float | None = None
    needed: int | None = None
    reason: str = ""
    made: Made = Made()


def decide(margins: np.ndarray, strict: bool = False, level: float = LEVEL) -> np.ndarray:
    """Whether a mean margin is above 0, by Student's one-sided bounds.

    Args:
        margins: (..., n), one a seed.
        strict: whether exactly 0 is too little.
        level: of each bound.

    Returns:
        (...): 1 where the lower bound is above 0, -1 where the upper one is below, else 0. Margins that are all equal are their own bounds.
        One margin has none.
    """
    mean, reach = margins.mean(-1), _reach(margins, level)
    same = margins.min(-1) == margins.max(-1) if margins.shape[-1] > 1 else np.zeros(margins.shape[:-1], bool)
    mean, reach = np.where(same, margins[..., 0], mean), np.where(same, 0.0, reach)
    held = (mean - reach > 0) | (same & (mean == 0) & (not strict))
    refuted = (mean + reach < 0) | (same & (mean == 0) & strict)
    return held.astype(int) - refuted.astype(int)


def _reach(margins: np.ndarray, level: float) -> np.ndarray:
    """From the mean to either one-sided bound; nan for one margin."""
    n = margins.shape[-1]
    if n < 2:
        return np.full(margins.shape[:-1], math.nan)
    return stats.t.ppf(level, n - 1) * margins.std(-1, ddof=1) / math.sqrt(n)


def further(margins: np.ndarray, level: float = LEVEL) -> int | None:
    """How many more seeds would decide it if their mean and deviation were those of the margins (n,); None for more than FAR, or one margin."""
    if len(margins) < 2:
        return None
    more = np.arange(1, FAR + 1)
    n = len(margins) + more
    enough = stats.t.ppf(level, n - 1) * margins.std(ddof=1) / np.sqrt(n) < abs(margins.mean())
    return int(more[enough.argmax()]) if enough.any() else None


def weigh(claim: Claim, scale: str, seeds: list[int], rows: dict[str, np.ndarray]) -> Verdict:
    """The verdict on numbers.

    Args:
        rows: of each row of the claim, one value a seed.

    Several comparisons are each held to 5 % divided by their number, whichever way they fall: all must hold, and one that does not refutes the claim.
    An identity `a == b` needs no statistics: it holds if all seeds are equal, bit for bit.
    """
    inexact = sum(not part.exact for part in claim.parts)
    level = 1 - (1 - LEVEL) / max(1, inexact)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = [_part(part, Verdict(claim, scale, seeds, "undecided", threshold=part.threshold), rows, level) for part in claim.parts]
    open_ends = [v for _, v in found if v.verdict == "undecided"]
    _, worst = min(found, key=lambda pair: (WORDS.index(pair[1].verdict), pair[0]))
    if worst.verdict != "undecided":
        return worst
    needed = [v.needed for v in open_ends]
    return replace(worst, needed=None if None in needed else max(needed), reason=next((v.reason for v in open_ends if v.reason), ""))


def _part(part: Comparison, empty: Verdict, rows: dict[str, np.ndarray], level: float) -> tuple[float, Verdict]:
    """The lower bound of a comparison's margin, by which the worst is found, and its verdict."""
    margins, effects = part.margin(rows), part.effect(rows)
    if not np.isfinite(margins).all():
        return -math.inf, replace(empty, reason=f"not a finite number on seeds {spelled([s for s, m in zip(empty.seeds, margins) if not math.isfinite(m)])}")
    mean = interval(effects)
    known = replace(empty, effect=mean.mean, low=_finite(mean.low), high=_finite(mean.high))
    if part.exact:
        return -float(abs(margins).max()), replace(known, verdict="refuted" if margins.any() else "held")
    word = WORDS[1 + int(decide(margins, part.strict, level))]
    lower = float(margins.mean() - np.nan_to_num(_reach(margins, level)))
    if word != "undecided":
        return lower, replace(known, verdict=word)
    needed = further(margins, level)
    why = "one seed has no interval" if len(margins) < 2 else "" if needed else f"more than {FAR} further seeds"
    return lower, replace(known, needed=needed, reason=why)


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def spelled(seeds: list[int]) -> str:
    """`[0, 1, 2, 3, 4, 10]` -> `0-4,10`."""
    spans: list[list[int]] = []
    for seed in sorted(set(seeds)):
        if spans and seed == spans[-1][1] + 1:
            spans[-1][1] = seed
        else:
            spans.append([seed, seed])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)


def judge(recipe: str, scale: str | None = None, seeds: list[int] | None = None, run: bool = False) -> list[Verdict]:
    """The verdicts on one recipe's claims; see `judge_all`."""
    return judge_all([recipe], scale, seeds, run)


def judge_all(recipes: list[str], scale: str | None = None, seeds: list[int] | None = None, run: bool = False) -> list[Verdict]:
    """The verdicts on all claims of recipes, from one plan of all their runs.

    Args:
        recipes: their names.
        scale, seeds: for all claims; each claim's own if not given.
        run: whether to run what the store does not have; else a claim without its runs is undecided.

    Raises:
        UserError: an unknown recipe, a claim that cannot be read. Stopped: by Ctrl-C, before all was run.
    """
    asked = {claim: (scale or claim.scale, claim.seeds if seeds is None else seeds) for recipe in recipes for claim in claims.of(recipe)}
    plan, wanted, refused = _plan(asked)
    if run and plan.jobs:
        _run(plan)
    ids = dict(zip((cell for own in wanted.values() for cell in own), plan.asked, strict=True))
    states, counted, found = plan.states(), set(), []
    for claim, how in asked.items():
        if claim in refused:
            found.append(Verdict(claim, *how, "undecided", reason=refused[claim]))
            continue
        runs = {cell: ids[cell] for cell in wanted[claim]}
        own = [(claim.recipe, run) for run in runs.values()]
        made = _made(plan, {run for _, run in own}, {run for _, run in own if (claim.recipe, run) not in counted})
        counted.update(own)
        found.append(replace(_look(claim, *how, runs, plan, states), made=made))
    return found


def _plan(asked: dict[Claim, tuple[str, list[int]]]) -> tuple[Plan, dict[Claim, list[cells.Cell]], dict[Claim, str]]:
    """One plan of all claims that compose at their scale, the cells of each, and why the others do not."""
    try:
        wanted = {claim: claim.runs(*how) for claim, how in asked.items()}
        return cells.plan([cell for own in wanted.values() for cell in own]), wanted, {}
    except UserError:
        refused = {claim: why for claim, how in asked.items() if (why := _refusal(claim, how))}
        wanted = {claim: claim.runs(*how) for claim, how in asked.items() if claim not in refused}
        return cells.plan([cell for own in wanted.values() for cell in own]), wanted, refused


def _refusal(claim: Claim, how: tuple[str, list[int]]) -> str:
    try:
        cells.plan(claim.runs(*how))
    except UserError as error:
        return str(error)
    return ""


def _run(plan: Plan) -> None:
    from runner.cli import sweep

    if "stopped" in sweep.run(plan).values():
        raise Stopped("stopped; the same command goes on")


def _look(claim: Claim, scale: str, seeds: list[int], runs: dict[cells.Cell, str], plan: Plan, states: dict[str, str]) -> Verdict:
    """The verdict on what is in the store. Rows that the setting makes equal can only agree, which says nothing."""
    own = {row: [run for cell, run in runs.items() if cell.row == row] for row in claim.rows}
    for a, b in itertools.combinations(claim.rows, 2):
        if own[a] == own[b]:
            return Verdict(claim, scale, seeds, "undecided", reason=f"{a} and {b} are the same runs")
    rows: dict[str, list[float]] = {row: [] for row in claim.rows}
    lacking: dict[str, dict[str, list[int]]] = {}
    for cell, run in runs.items():
        value = plan.store.measured(run, claim.metric) if states[run] == "done" else None
        if value is None:
            lacking.setdefault(_why(run, claim.metric, plan, states[run]), {}).setdefault(cell.row, []).append(cell.seed)
        else:
            rows[cell.row].append(value)
    if lacking:
        reason = "; ".join(f"{', '.join(f'{row} on {spelled(lost)}' for row, lost in which.items())}: {why}" for why, which in lacking.items())
        return Verdict(claim, scale, seeds, "undecided", reason=reason)
    return weigh(claim, scale, seeds, {row: np.array(values) for row, values in rows.items()})


def _why(run: str, metric: str, plan: Plan, state: str) -> str:
    """Why a run has no value."""
    if state == "done":
        return f"it measures no {metric}, or not so often"
    error = (plan.store.failed(run) or {}).get("error") if state == "failed" else None
    return f"{state}, {error}" if error else state


def _made(plan: Plan, runs: set[str], new: set[str]) -> Made:
    done = {run: found for run in runs if (found := plan.store.done(run))}
    if not done:
        return Made()
    newest = max(done, key=lambda run: done[run].get("finished", 0.0))
    about = plan.store.environment(newest) or {}
    date = datetime.fromtimestamp(done[newest].get("finished", 0.0), UTC).date().isoformat()
    return Made(round(sum(done[run]["seconds"] for run in new & done.keys()), 1), date, about.get("commit") or "", about.get("torch") or "")
