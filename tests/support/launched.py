"""Jobs for launchers: a small one that every process can import, and a real run beside its undisturbed twin."""

import os
import signal
import time
from pathlib import Path

RECIPE = ["+recipe=noisy_labels", "scale=smoke"]


def work(job, what, store, *rest) -> int:
    """A job that leaves a file with the GPUs it sees; then it returns a status, waits to be stopped, hangs, or is killed by a signal."""
    handler = {"wait": signal.default_int_handler, "hang": signal.SIG_IGN}.get(what)
    if handler:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, handler)
    Path(store, job).write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "none"))
    if handler:
        try:
            for _ in range(600):
                time.sleep(0.1)
        except KeyboardInterrupt:
            return 130
    if isinstance(what, str):
        signal.raise_signal(getattr(signal, what))
    return what


def warm(components: list, folders: list) -> None:
    """What jobs need: nothing."""


def submit(launcher, store, **jobs) -> None:
    for job, what in jobs.items():
        launcher.submit(job, (job, what, str(store)))


def collect(launcher, jobs: int, patience: float = 60.0) -> dict[str, int]:
    """The statuses of so many jobs as they end."""
    found, end = {}, time.monotonic() + patience
    while len(found) < jobs and time.monotonic() < end:
        found |= dict(launcher.ended(0.05))
    return found


def until(condition, patience: float = 60.0):
    """What a condition returns as soon as that is true."""
    end = time.monotonic() + patience
    while not (found := condition()):
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.02)
    return found


def straight(store, *overrides):
    """The record of a run that this process runs from start to end."""
    from runner.config import compose
    from runner.config.bind import bind
    from runner.execution.run import execute
    from runner.report.display import Silent

    with compose.composer() as composed:
        config = bind(composed(compose.rewrite([*RECIPE, "display=none", f"store={store}", *overrides])))
    return execute(config, Silent())[0]


def metrics(store, run: str) -> bytes:
    return (Path(store) / run / "metrics.jsonl").read_bytes()
