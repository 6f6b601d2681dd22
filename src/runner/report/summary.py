"""The table at the end of a run, and of several."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from runner.execution.store import STATES

LONGEST = max(map(len, STATES))


def output() -> Console:
    """Standard output, at least 200 columns wide where it is a file or a pipe: these have room."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, 200)
    return console


def split(summary: dict) -> dict[str, dict[str, float]]:
    """`{"test/acc_last": 97.5, "test/acc_best": 98.6}` -> `{"test/acc": {"last": 97.5, "best": 98.6}}`."""
    found: dict[str, dict[str, float]] = {}
    for key, value in summary.items():
        name, _, kind = key.rpartition("_")
        found.setdefault(name, {})[kind] = value
    return found


def number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}" if 0.1 <= abs(value) < 1000 else f"{value:.4g}"


def print_run(record, done: dict, console: Console | None = None) -> None:
    """One run: what it was, the last and best value of each metric."""
    console = console or output()
    picked = [
        c for c in record.config.choices if c.group in ("data", "model", "loss", "noise", "learner", "optimizer", "sparsity", "with") and c.option != "none"
    ]
    what = "  ".join(f"{c.group}={c.option}" + "".join(f" {k}={v}" for k, v in c.changed().items()) for c in picked)
    table = Table(title=f"run {record.id}")
    for heading, side in (("metric", "left"), ("last", "right"), ("best", "right")):
        table.add_column(heading, justify=side)
    for name, values in split(done["summary"]).items():
        table.add_row(name, number(values.get("last")), number(values.get("best")))
    console.print(table)
    console.print(f"{what}\n{done['steps']} step{'s' * (done['steps'] != 1)}, {done['seconds']:.1f} s, record in {record.folder}", markup=False, soft_wrap=True)


def print_jobs(jobs: list[tuple[list[str], str, dict | None]], console: Console | None = None) -> None:
    """Several runs: what differs between them, and the last value of each metric.

    Args:
        jobs: overrides, state and `done.json` of each.
    """
    console = console or output()
    found = [(overrides, state, split((done or {}).get("summary", {}))) for overrides, state, done in jobs]
    names = list(dict.fromkeys(n for _, _, values in found for n in values))
    table = Table(title=f"{len(jobs)} run{'s' * (len(jobs) != 1)}", caption="values at the end of training")
    table.add_column("job")
    table.add_column("", no_wrap=True, min_width=LONGEST)
    for name in names:
        table.add_column(name, justify="right")
    for overrides, state, values in found:
        table.add_row(escape(" ".join(overrides)), state, *(number(values.get(n, {}).get("last")) for n in names))
    console.print(table)
