"""What differs between two runs: config, code, data, versions, results, and the step from which on they are not the same."""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from runner.core.errors import UserError, nearest
from runner.execution.store import Store
from runner.report import runs
from runner.report.summary import output

_WHERE = ("step", "epoch")  # of a row of metrics: not a result


@dataclass(frozen=True)
class Record:
    """A run's record, read whole."""

    name: str
    state: str
    plain: dict
    environment: dict
    summary: dict[str, float]
    rows: list[dict]


@dataclass(frozen=True)
class Parting:
    """Where two runs part.

    Attributes:
        before: the last step at which they are equal; None if there is none.
        step: the first one at which they differ; None if there is none.
        values: what differs there, metric -> both values.
        only: the steps that only one of them logged, of each.
    """

    before: int | None
    step: int | None
    values: dict[str, tuple]
    only: tuple[list[int], list[int]]

    @property
    def same(self) -> bool:
        return self.step is None and self.only == ([], [])


def find(store: Store, name: str) -> Record:
    """The record that an id, the beginning of one, or a folder names. Raises UserError."""
    if "/" in name or Path(name).is_dir():
        folder = Path(name)
        if not (folder / "config.json").is_file():
            raise UserError(f"{name} is no record of a run: it has no config.json")
    else:
        known = list(store.ids())
        found = [name] if (store.folder / name / "config.json").is_file() else [run for run in known if run.startswith(name)]
        if len(found) != 1:
            raise UserError(f"'{name}' is the beginning of {len(found)} runs" if found else f"no run '{name}' in {store.folder}{nearest(name, known)}")
        folder = store.folder / found[0]
    home, run = Store(folder.parent), folder.name
    done = home.done(run) or {}
    return Record(run, home.state(run), home.config(run) or {}, home.environment(run) or {}, done.get("summary", {}), home.rows(run))


def differing(a: dict, b: dict) -> dict[str, tuple]:
    """Key -> both values, where they are not the same, as nan is to nan here; None for one that is not there."""
    both = {k: (a.get(k), b.get(k)) for k in dict.fromkeys([*a, *b])}
    return {k: (x, y) for k, (x, y) in both.items() if x != y and (x == x or y == y)}


def parting(a: list[dict], b: list[dict]) -> Parting:
    """Where two runs part, from their rows of metrics. Rows with a fingerprint of the weights (`hash`) are the same where that is."""
    mine, others = ({row["step"]: row for row in rows} for rows in (a, b))
    only = tuple(sorted(one.keys() - other.keys()) for one, other in ((mine, others), (others, mine)))
    before = None
    for step in sorted(mine.keys() & others.keys()):
        if values := _differing_rows(mine[step], others[step]):
            return Parting(before, step, values, only)
        before = step
    return Parting(before, None, {}, only)


def _differing_rows(a: dict, b: dict) -> dict[str, tuple]:
    if "hash" in a and "hash" in b and a["hash"] == b["hash"]:
        return {}
    return {k: values for k, values in differing(a, b).items() if k not in _WHERE and k in a and k in b}


def print_all(a: Record, b: Record, console: Console | None = None) -> bool:
    """All sections. Returns whether both runs have the same results."""
    console = console or output()
    telling = runs.telling(a.plain) | runs.telling(b.plain)
    config = differing(runs.flat(a.plain), runs.flat(b.plain))
    config = {k: both for k, both in config.items() if k in telling or None not in both}  # not the defaults of an option that one of them has
    _section(console, "config", config, a, b, telling)
    versions = differing(a.environment, b.environment)
    for key, what in (("code", "code"), ("commit", "commit"), ("data", "data")):
        both = [str(record.environment.get(key)) for record in (a, b)]
        _line(console, what, f"differs: {both[0]} | {both[1]}" if key in versions else f"same: {both[0]}")
    _section(console, "files", differing(*(record.environment.get("files", {}) for record in (a, b))), a, b)
    _section(console, "versions", {k: v for k, v in versions.items() if k not in ("code", "commit", "data", "files")}, a, b)
    summary = differing(a.summary, b.summary)
    _section(console, "summary", summary, a, b)
    part = parting(a.rows, b.rows)
    _line(console, "steps", told(part, a, b))
    if part.values:
        _section(console, f"at step {part.step}", part.values, a, b)
    return part.same and not summary


def told(part: Parting, a: Record, b: Record) -> str:
    """Where they part, in words."""
    equal = "" if part.before is None else f"equal up to step {part.before}, "
    if part.step is not None:
        return f"{equal}different at step {part.step}" + ("" if equal else ", the first that both logged")
    short, long, extra = (a, b, part.only[1]) if part.only[1] else (b, a, part.only[0])
    if part.same:
        return f"equal in all {len(a.rows)} logged steps"
    if all(part.only):
        return f"{equal}{a.name} and {b.name} were logged at other steps"
    if part.before is None or extra[0] > part.before:
        return f"{equal}{short.name} ({short.state}) ends there, {long.name} ({long.state}) goes on to step {extra[-1]}"
    return f"{equal}{long.name} was logged more often"


def _line(console: Console, what: str, text: str) -> None:
    console.print(f"[bold]{what}[/]  {escape(text)}", soft_wrap=True)


def _section(console: Console, title: str, values: dict[str, tuple], a: Record, b: Record, telling: set[str] | None = None) -> None:
    """A table of what differs.

    Args:
        telling: the keys that may change the result; the others are marked.
    """
    if not values:
        _line(console, title, "same")
        return
    table = Table(box=None, pad_edge=False, title=title, title_justify="left", title_style="bold")
    for heading in ("", a.name, b.name, ""):
        table.add_column(heading)
    for key, both in values.items():
        numeric = all(isinstance(v, float) for v in both)
        note = f"{both[1] - both[0]:+.4g}" if numeric else "does not change the result" if telling is not None and key not in telling else ""
        table.add_row(key, *(escape(f"{v:.6g}" if isinstance(v, float) else runs.shown(v)) for v in both), note)
    console.print(table)
