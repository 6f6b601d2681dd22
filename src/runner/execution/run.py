"""One run from a checked config to a record that is done, failed, or can be gone on with."""

import contextlib
import signal
import time
import traceback

from runner.config.bind import Config
from runner.core import snapshot
from runner.core.checkpoint import Checkpoints
from runner.core.errors import NotFinite, Stopped, UserError
from runner.execution.assemble import assemble, build
from runner.execution.identity import data_fingerprint
from runner.execution.record import Record
from runner.execution.sinks import Sinks


class Failed(Exception):
    """The run ended in an error that its record describes."""


def execute(config: Config, display) -> tuple[Record, dict]:
    """Run, go on with, or just return a run.

    Args:
        display: told what happens; see `runner.report.display`.

    Returns:
        The record and its `done.json`.

    Raises:
        UserError: before anything is written. Failed, Stopped: the record says how.
    """
    record = Record(config)
    fresh = config.settings["fresh"]
    if (done := record.done) and not fresh and not record.stale:
        display.say(f"run {record.id} is done already; 'fresh=true' runs it again")
        return record, done

    rows = _Rows(display)
    loop = assemble(config, rows)
    checkpoints = Checkpoints(record.file("checkpoints"), loop.training.checkpoint_every)
    again = fresh or record.stale
    saved = None if again or done else checkpoints.load(display.say)
    if saved:
        snapshot.load(loop, saved)
        display.say(f"run {record.id} goes on at step {loop.state.step}")
    if again and record.folder.exists():
        display.say(f"the record {'of before' if fresh else 'that other code wrote'} is kept as {record.set_aside('old' if fresh else 'stale')}")
    record.open(saved["extra"]["metrics"] if saved else 0, data_fingerprint(loop.state.data))
    with contextlib.closing(Sinks([build(c) for c in config["logger"]], record, display.say)) as sinks:
        rows.start(record, sinks, loop)
        return record, _train(record, loop, checkpoints, sinks, display)


def _train(record: Record, loop, checkpoints: Checkpoints, sinks: Sinks, display) -> dict:
    start = time.time()
    record.log(f"start at step {loop.state.step}")

    def after_step(loop):
        display.step(loop)
        checkpoints.after_step(loop, record.position)

    try:
        with _stoppable(checkpoints), display.running(record, loop):
            summary = loop.run(after_step)
    except Stopped as stopped:
        record.log(str(stopped))
        record.close()
        raise
    except NotFinite as error:
        _fail(record, {"error": str(error), **error.record})
        raise Failed(f"{error}; the record is in {record.folder}") from error
    except UserError as error:
        _fail(record, {"error": str(error), "step": loop.state.step})
        raise
    except Exception as error:
        text = traceback.format_exc()
        record.log(text)
        _fail(record, {"error": f"{type(error).__name__}: {error}", "step": loop.state.step, "traceback": text})
        raise Failed(f"{type(error).__name__}: {error}; see {record.file('log.txt')}") from error
    checkpoints.save(loop.state.step, {**snapshot.save(loop), "extra": record.position()})
    done = {"summary": summary, "steps": loop.state.step, "seconds": round(time.time() - start, 3), "finished": time.time()}
    record.log("done")
    sinks.finish(summary)
    record.close("done.json", done)
    return done


def _fail(record: Record, content: dict) -> None:
    record.log(content["error"])
    record.close("failed.json", content)


@contextlib.contextmanager
def _stoppable(checkpoints: Checkpoints):
    """The first Ctrl-C or SIGTERM asks the run to save itself and stop, the second stops it at once."""

    def ask(number, frame):
        checkpoints.stop = True
        signal.signal(number, before[number])

    try:
        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: whoever started it decides
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Rows:
    """Takes each row of metrics to the record, the sinks and the display."""

    def __init__(self, display):
        self.display, self.record = display, None

    def start(self, record: Record, sinks: Sinks, loop) -> None:
        self.record, self.sinks, self.loop = record, sinks, loop
        self.time, self.step = time.time(), loop.state.step

    def __call__(self, row: dict) -> None:
        now = time.time()
        rate = (row["step"] - self.step) / max(1e-9, now - self.time)
        self.time, self.step = now, row["step"]
        self.record.add(row)
        self.record.add_timing({"step": row["step"], "time": now, "steps_per_second": round(rate, 3)})
        self.sinks.log(row)
        self.display.row(row)
