"""Progress of a run: a live bar on a terminal, plain lines elsewhere, nothing where nobody looks."""

import contextlib
import sys
import time

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

LINES = 20  # at most, of a whole run without a terminal
SHOWN = 5  # metrics beside the bar


def make(kind: str):
    """The display for `display=auto|rich|plain|none`."""
    if kind == "auto":
        kind = "rich" if sys.stderr.isatty() else "plain"
    return {"rich": Rich, "plain": Plain, "none": Silent}[kind]()


def brief(row: dict) -> str:
    """A row of metrics in a few words."""
    shown = {k: v for k, v in row.items() if k not in ("step", "epoch", "lr") and isinstance(v, float)}
    return "  ".join(f"{k} {v:.4g}" for k, v in list(shown.items())[:SHOWN])


class Silent:
    """Errors and remarks only."""

    def __init__(self):
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)

    def say(self, line: str) -> None:
        self.console.print(line, markup=False)

    @contextlib.contextmanager
    def running(self, record, loop):
        yield

    def step(self, loop) -> None:
        pass

    def row(self, row: dict) -> None:
        pass


class Plain(Silent):
    """A line now and then."""

    @contextlib.contextmanager
    def running(self, record, loop):
        self.total, self.next = loop.state.clock.total, loop.state.step
        self.say(f"run {record.id}: {loop.state.clock.total} steps on {loop.state.device}")
        yield

    def row(self, row):
        if row["step"] >= self.next or row["step"] >= self.total:
            self.next = row["step"] + self.total / LINES
            self.say(f"step {row['step']}/{self.total}  epoch {row['epoch']:g}  {brief(row)}")


class Rich(Silent):
    """A live bar with time left, and the last metrics below it."""

    @contextlib.contextmanager
    def running(self, record, loop):
        columns = (
            TextColumn("[bold]{task.description}"),
            BarColumn(None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self.progress, self.metrics, self.shown = Progress(*columns, console=self.console), Text(no_wrap=True, overflow="ellipsis"), 0.0
        self.task = self.progress.add_task(record.id, total=loop.state.clock.total, completed=loop.state.step)
        with Live(Group(self.progress, self.metrics), console=self.console, refresh_per_second=8):
            yield
            self.progress.update(self.task, completed=loop.state.step)

    def step(self, loop):
        now = time.monotonic()
        if now - self.shown > 0.1:
            self.shown = now
            self.progress.update(self.task, completed=loop.state.step)
            if len(loop.phases) > 1:
                self.progress.update(self.task, description=loop.phases[loop.state.phase].name)

    def row(self, row):
        self.metrics.plain = f"epoch {row['epoch']:g}  {brief(row)}"
