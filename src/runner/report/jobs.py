"""Jobs on the terminal: a plan's list, and the progress of a sweep."""

import contextlib
import sys
import time
from collections import Counter

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from runner.report.summary import LONGEST, output

COLOURS = {"done": "green", "failed": "red", "stopped": "yellow", "stale": "magenta", "damaged": "red", "running": "cyan", "missing": "", "again": "yellow"}


def make(kind: str, total: int):
    """The display of a sweep for `display=auto|rich|plain|none`."""
    if kind == "auto":
        kind = "rich" if sys.stderr.isatty() else "plain"
    return {"rich": Rich, "plain": Lines, "none": Silent}[kind]()


def span(seconds: float) -> str:
    """`90` -> `1.5 min`."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def counts(states: dict[str, str]) -> str:
    """`45 jobs: 30 done, 15 missing`."""
    many = Counter(states.values())
    return f"{len(states)} job{'s' * (len(states) != 1)}: " + (", ".join(f"{many[s]} {s}" for s in COLOURS if many[s]) or "none")


def print_plan(plan, states: dict[str, str], forecast: str, console: Console | None = None) -> None:
    """All jobs of a plan with their states, and how long what is left will take."""
    console = console or output()
    table = Table(box=None, pad_edge=False)
    for heading, least in (("run", 12), ("state", LONGEST)):
        table.add_column(heading, no_wrap=True, min_width=least)
    table.add_column("job")
    for job in plan.jobs:
        table.add_row(job.id, Text(states[job.id], COLOURS[states[job.id]]), escape(job.name))
    console.print(table)
    console.print(f"{counts(states)}; {forecast}\nplan {plan.file}", markup=False, soft_wrap=True)


class Silent:
    """Says what failed, nothing else."""

    def __init__(self):
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)

    @contextlib.contextmanager
    def showing(self, plan, chosen):
        self.total, self.ends = len(chosen), Counter()
        yield

    def started(self, job) -> None:
        pass

    def ended(self, job, state: str, seconds: float, why: str, log) -> None:
        self.ends[state] += 1
        if state in ("failed", "again"):
            word = "failed, runs again" if state == "again" else "failed"
            self.console.print(f"runner: {job.name}: {word}: {why}; log {log}", markup=False)

    def progress(self, running: dict) -> None:
        """Told a few times a second: job -> (share of its steps, since when)."""

    @property
    def over(self) -> int:
        """How many jobs have ended for good."""
        return sum(n for state, n in self.ends.items() if state != "again")


class Lines(Silent):
    """A line a job."""

    def ended(self, job, state, seconds, why, log):
        super().ended(job, state, seconds, why, log)
        if state not in ("failed", "again"):
            self.console.print(f"[{self.over}/{self.total}] {job.name}: {state}, {seconds:.1f} s", markup=False)


class Rich(Silent):
    """A live table of the running jobs under a bar of all."""

    @contextlib.contextmanager
    def showing(self, plan, chosen):
        with super().showing(plan, chosen):
            self.start, self.running = time.monotonic(), {}
            with Live(self.table(), console=self.console, refresh_per_second=4) as self.live:
                yield
                self.progress({})

    def progress(self, running):
        self.running = running
        self.live.update(self.table())

    def table(self):
        spent = time.monotonic() - self.start
        partly = self.over + sum(share for share, _ in self.running.values())
        left = f", about {span(spent / partly * (self.total - partly))} left" if partly > 0 and self.over < self.total else ""
        many = ", ".join(f"{n} {state}" for state, n in self.ends.items())
        bar = Table.grid(padding=(0, 1))
        bar.add_row(Text("sweep", "bold"), ProgressBar(self.total, partly, width=40), f"{self.over}/{self.total}", many, f"{span(spent)}{left}")
        jobs = Table.grid(padding=(0, 1))
        for job, (share, since) in self.running.items():
            jobs.add_row(job.id, ProgressBar(1.0, share, width=20), span(time.monotonic() - since), Text(job.name, overflow="ellipsis", no_wrap=True))
        return Group(bar, jobs)
