"""The cells of a recipe's tables and claims: which runs they ask for.

tables:
  NAME:
    rows: {ce: {with: []}, elr: {}}        # named rows: what each sets; or {KEY: [values]}, a row a value
    cols: {noise.rate: [0.2, 0.4]}         # likewise; several keys multiply, a key with one value outside a list is the same for all
    seeds: 5
    metric: test/acc_last            # or the best one, acc_best, or the mean of the last ten measurements, acc_last10

What a row sets wins over its column. A scale may have other rows, columns or seeds, or leave a table out:
scales: {SCALE: {tables: {NAME: {cols: {}}, OTHER: null}}}
"""

import itertools
from dataclasses import dataclass

from runner.config import compose, recipes
from runner.config.overrides import settings
from runner.core.errors import UserError, nearest
from runner.execution import plan as plans
from runner.execution.plan import Plan

PARTS = {"rows", "cols", "seeds", "metric", "published"}


@dataclass(frozen=True)
class Cell:
    """One run of a table: where it stands, and the command line that makes it."""

    row: str
    col: str
    seed: int
    overrides: tuple[str, ...]


def axis(spec: dict | None) -> dict[str, tuple[str, ...]]:
    """The entries of a table's rows or columns: label -> overrides. Lists of several keys multiply; without any there is one entry, called ''."""
    same = shared(spec)
    named = {str(label): settings(values) for label, values in (spec or {}).items() if isinstance(values, dict)}
    grid = {key: values for key, values in (spec or {}).items() if isinstance(values, list)}
    found = {}
    for combination in itertools.product(*grid.values()):
        pairs = dict(zip(grid, combination, strict=True))
        label = str(next(iter(pairs.values()))) if len(pairs) == 1 else ", ".join(settings(pairs))
        found[label] = settings(pairs)
    if named and grid:
        found = {f"{a}, {b}": (*named[a], *found[b]) for a in named for b in found}
    return {label: (*same, *own) for label, own in (found if grid or not named else named).items()}


def shared(spec: dict | None) -> tuple[str, ...]:
    """What all rows or columns set: keys with a value that is neither a list nor overrides of a name."""
    return settings({key: value for key, value in (spec or {}).items() if not isinstance(value, dict | list)})


def naming(spec: dict | None) -> set[str]:
    """The keys that a table's rows or columns are named by: those in lists, and those that names do not all set alike."""
    entries = [set(overrides) for overrides in axis(spec).values()]
    alike = set.intersection(*entries) if len(entries) > 1 else set(shared(spec))
    lists = {key for key, values in (spec or {}).items() if isinstance(values, list)}
    return {_key(key) for key in lists} | {_key(override) for own in entries for override in own - alike}


def _key(override: str) -> str:
    return override.lstrip("+").partition("=")[0]


def tables(recipe: str, scale: str = "mini") -> dict[str, dict]:
    """A recipe's tables as they are at a scale. Raises UserError."""
    content = recipes.read(recipe)
    known, own = content.get("tables") or {}, ((content.get("scales") or {}).get(scale) or {}).get("tables") or {}
    if not isinstance(known, dict):
        raise UserError(f"recipe {recipe}: tables={known!r} is not valid; it takes names, each with {', '.join(sorted(PARTS))}")
    for name, spec in known.items():
        _check(f"recipe {recipe}, table {name}", spec)
    if not isinstance(own, dict):
        raise UserError(f"recipe {recipe}, scale {scale}: tables={own!r} is not valid; it takes names of tables")
    for name, other in own.items():
        if name not in known:
            raise UserError(f"recipe {recipe}, scale {scale}: no table '{name}'{nearest(name, known)}")
        if other is not None and not (isinstance(other, dict) and other.keys() <= PARTS):
            raise UserError(f"recipe {recipe}, scale {scale}: table {name} takes {', '.join(sorted(PARTS))}, or null where it is left out; not {other!r}")
        _check(f"recipe {recipe}, scale {scale}, table {name}", other or {})
    return {name: {**spec, **own.get(name, {})} for name, spec in known.items() if own.get(name, {}) is not None}


def _check(where: str, spec) -> None:
    """Raises UserError for what is no table, or a part of one."""
    if not isinstance(spec, dict):
        raise UserError(f"{where} is {spec!r}; it takes {', '.join(sorted(PARTS))}")
    for part, value in spec.items():
        if part not in PARTS:
            raise UserError(f"{where}: unknown key '{part}'{nearest(part, PARTS)}")
        if part in ("rows", "cols") and value is not None and (not isinstance(value, dict) or [] in value.values()):
            raise UserError(f"{where}: {part}={value!r} is not valid; it takes named overrides, such as {{ce: {{loss: ce}}}}, or lists, {{loss: [ce, gce]}}")
        if part == "seeds" and (not isinstance(value, int) or value < 1):
            raise UserError(f"{where}: seeds={value!r} is not valid; it takes a number of seeds, 1 or more")
        if part == "metric" and not isinstance(value, str):
            raise UserError(f"{where}: metric={value!r} is not valid; it takes one of a run's summary, such as test/acc_last")
        if part == "published" and not (isinstance(value, dict) and "source" in value and isinstance(value.get("values", {}), dict)):
            raise UserError(f"{where}: published={value!r} is not valid; it takes a source, and values: {{ROW: {{COL: NUMBER}}}}")
        lines = value.get("values", {}).values() if part == "published" else ()
        if wrong := [v for line in lines for v in (line.values() if isinstance(line, dict) else [line]) if not isinstance(v, int | float | None)]:
            raise UserError(f"{where}: published holds {wrong[0]!r}; it takes numbers, or null")


def table(recipe: str, name: str | None = None, scale: str = "mini") -> tuple[str, dict]:
    """A recipe's table at a scale by its name, the first one without. Raises UserError with the nearest name, or for a table without a metric."""
    known = tables(recipe, scale)
    if not known:
        raise UserError(f"recipe {recipe} has no tables at scale {scale}")
    name = name or next(iter(known))
    if name not in known:
        raise UserError(f"recipe {recipe} has no table '{name}' at scale {scale}{nearest(name, known)}")
    if "metric" not in known[name]:
        raise UserError(f"recipe {recipe}, table {name} has no metric; it takes one of a run's summary, such as metric: test/acc_last")
    return name, known[name]


def of_table(recipe: str, spec: dict, scale: str = "mini", seeds: list[int] | None = None, extra: tuple[str, ...] = ()) -> list[Cell]:
    """All cells of a table, row by row. Raises UserError for an extra override after which rows or columns would not be what they are called."""
    for side in ("rows", "cols"):
        if hidden := [override for override in extra if _key(override) in naming(spec.get(side))]:
            raise UserError(f"'{hidden[0]}' is not for all cells: the table's {side} are named by what they set there")
    seeds = list(range(spec.get("seeds", 5))) if seeds is None else seeds
    return [
        Cell(row, col, seed, (f"+recipe={recipe}", f"scale={scale}", *of_col, *of_row, *extra, f"seed={seed}"))
        for row, of_row in axis(spec.get("rows")).items()
        for col, of_col in axis(spec.get("cols")).items()
        for seed in seeds
    ]


def plan(cells: list[Cell]) -> Plan:
    """The plan of cells; `plan.asked` names the run of each. Raises UserError."""
    with compose.composer() as composed:
        return plans.of((job := compose.rewrite(list(cell.overrides)), composed(job)) for cell in cells)


def values(cells: list[Cell], made: Plan, metric: str) -> dict[tuple[str, str], dict[int, float]]:
    """What is in the store: (row, col) -> seed -> value of a metric. What is not done, or not measured, is left out."""
    found: dict[tuple[str, str], dict[int, float]] = {(cell.row, cell.col): {} for cell in cells}
    codes = {job.id: job.code for job in made.jobs}
    for cell, run in zip(cells, made.asked, strict=True):
        if made.store.state(run, codes[run]) == "done" and (value := made.store.measured(run, metric)) is not None:
            found[cell.row, cell.col][cell.seed] = value
    return found
