"""A recipe's table as data: values and intervals over seeds, the published values beside them, and the rows that are best beyond doubt."""

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy import stats

from runner.config.bind import Config
from runner.execution.plan import Plan
from runner.report import cells
from runner.report.statistics import Interval, interval, paired

ALPHA = 0.05


@dataclass(frozen=True)
class Entry:
    """One cell: what was measured with each seed, and what was published for it."""

    values: dict[int, float]
    runs: dict[int, str]  # seed -> run id, also of runs that are not done
    published: float | None = None
    best: bool = False

    @cached_property
    def interval(self) -> Interval:
        return interval(self.values.values())


@dataclass(frozen=True)
class Table:
    """All cells of a table; `cells` holds every (row, col), also where nothing was measured.

    Attributes:
        key: the config key that the columns set, empty where they have names of their own.
        cols: labels of the columns; one, called '', where the table has none.
        better: `max`, `min`, or None where no evaluator of the runs says which values are good.
        extra: overrides that all cells have beyond what the recipe says.
    """

    recipe: str
    name: str
    scale: str
    metric: str
    key: str
    rows: tuple[str, ...]
    cols: tuple[str, ...]
    seeds: tuple[int, ...]
    cells: dict[tuple[str, str], Entry]
    better: str | None = None
    source: str = ""
    source_scale: str = ""
    extra: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return ", ".join([f"{self.recipe}:{self.name}", self.metric, f"scale {self.scale}", *self.extra])

    def label(self, col: str) -> str:
        """What stands above a column."""
        return col or self.metric

    def missing(self) -> set[str]:
        """The runs without a value."""
        return {run for entry in self.cells.values() for seed, run in entry.runs.items() if seed not in entry.values}


def collect(recipe: str, name: str, scale: str, asked: list[cells.Cell], plan: Plan, extra: tuple[str, ...] = ()) -> Table:
    """The table of what is in the store for the planned cells."""
    spec = cells.table(recipe, name, scale)[1]
    published = spec.get("published") or {}
    lines = {str(row): line if isinstance(line, dict) else {"": line} for row, line in (published.get("values") or {}).items()}
    known = {(row, str(col)): value for row, line in lines.items() for col, value in line.items()}
    runs: dict[tuple[str, str], dict[int, str]] = {}
    for cell, run in zip(asked, plan.asked, strict=True):
        runs.setdefault((cell.row, cell.col), {})[cell.seed] = run
    found = {at: Entry(values, runs[at], known.get(at)) for at, values in cells.values(asked, plan, spec["metric"]).items()}
    better = direction(spec["metric"], plan.jobs[0].config)
    cited = any(entry.published is not None for entry in found.values())
    return Table(
        recipe, name, scale, spec["metric"], _key(spec.get("cols") or {}), tuple(dict.fromkeys(c.row for c in asked)),
        tuple(dict.fromkeys(c.col for c in asked)), tuple(dict.fromkeys(c.seed for c in asked)), marked(found, better), better,
        published["source"] if cited else "", published.get("scale", "") if cited else "", (*cells.shared(spec.get("cols")), *extra),
    )  # fmt: skip


def _key(cols: dict) -> str:
    told = [key for key, values in cols.items() if isinstance(values, list | dict)]
    return told[0] if len(told) == 1 and isinstance(cols[told[0]], list) else ""


def direction(metric: str, config: Config) -> str | None:
    """`max` or `min`, as the evaluator or probe says that measures `test/acc_last`; None if none does."""
    name = metric.rpartition("/")[2].rpartition("_")[0]
    ways = {k: way for c in config.choices if c.group in ("eval", "probe") for k, way in c.schema.card.better.items()}
    return ways.get(name)


def marked(found: dict[tuple[str, str], Entry], better: str | None) -> dict[tuple[str, str], Entry]:
    """The cells, with `best` set where a row is the best of its column."""
    columns: dict[str, dict[str, dict[int, float]]] = {}
    for (row, col), entry in found.items():
        columns.setdefault(col, {})[row] = entry.values
    winners = {(best(column, better), col) for col, column in columns.items()}
    return {at: replace(entry, best=at in winners) for at, entry in found.items()}


def best(column: dict[str, dict[int, float]], better: str | None) -> str | None:
    """The row whose values differ from those of every other row for the better: paired t tests over common seeds, Holm-corrected, all p < 0.05.

    Args:
        column: row -> seed -> value.
        better: `max` or `min`; None if that is not known.

    Returns:
        None where there is no such row, or where a row has no value yet.
    """
    if better is None or len(column) < 2 or not all(column.values()):
        return None
    sign = 1 if better == "max" else -1
    first = max(column, key=lambda row: sign * np.mean(list(column[row].values())))
    chances = holm([chance(sign * paired(column[first], column[row])) for row in column if row != first])
    return first if max(chances) < ALPHA else None


def chance(differences: np.ndarray) -> float:
    """The p value of the paired, two-sided t test; 1 for differences whose mean is not above 0, or that are too few or too equal to tell."""
    if len(differences) < 2 or differences.mean() <= 0 or np.allclose(differences, differences[0], rtol=1e-6, atol=0):
        return 1.0
    return float(stats.ttest_1samp(differences, 0.0).pvalue)


def holm(chances: list[float]) -> list[float]:
    """p values corrected for their number by Holm's method, in the same order."""
    corrected, least = [math.nan] * len(chances), 0.0
    for rank, k in enumerate(np.argsort(chances)):
        least = max(least, min(1.0, (len(chances) - rank) * chances[k]))
        corrected[k] = least
    return corrected
