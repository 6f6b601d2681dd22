"""One run from a checked config to a record that is done, failed, or can be gone on with."""

import contextlib
import os
import signal
import time
import traceback

from runner.config.bind import Config
from runner.core import snapshot
from runner.core.errors import NotFinite, Stopped, UserError
from runner.execution.assemble import assemble, beyond
from runner.execution.checkpoint import Checkpoints, Damaged
from runner.execution.identity import data_fingerprint
from runner.execution.record import Record
from runner.execution.sinks import Sinks
from runner.execution.trace import fingerprint

STAY = "there is nothing to do"


class Failed(Exception):
    """The run ended in an error that its record describes."""


def execute(config: Config, display, code: str | None = None, mend: bool = False) -> tuple[Record, dict | None]:
    """Run, go on with, or just return a run.

    Args:
        display: told what happens; see `runner.report.display`.
        code: fingerprint of the loaded code, if the files may have changed since.
        mend: start again where no checkpoint is whole, rather than raise.

    Under torchrun the first process does this, and the others take its steps along with it.

    Returns:
        The record and its `done.json`; None for it in the other processes.

    Raises:
        UserError: before anything is written. Failed, Stopped: the record says how.
    """
    record = Record(config, code)
    fresh = config.settings["fresh"]
    if record.state == "done" and not fresh:
        return record, _already(record, display)
    rows = _Rows(display)
    try:
        loop = assemble(config, rows)
    except (RuntimeError, MemoryError) as error:  # no memory for a model, shapes that do not fit
        if os.environ.get("RUNNER_TRACEBACK"):
            raise
        raise _unassembled(record, error) from error
    with contextlib.closing(loop.state.world) as world:
        if world.rank:
            return record, _follow(loop, rows)
        return record, _lead(record, loop, rows, display, mend)


def _unassembled(record: Record, error: Exception) -> Failed:
    said = f"{type(error).__name__}: {_line(error)}"
    if os.environ.get("RANK", "0") == "0" and record.state != "running":  # by another process
        with contextlib.suppress(OSError):
            record.store.fail(record.id, {"error": said, "traceback": "".join(traceback.format_exception(error))})
    return Failed(f"{said}; see {record.file('failed.json')}, or set RUNNER_TRACEBACK=1")


def _line(error: Exception) -> str:
    """Its message on one line; of an error in a process that reads data the last line alone, which says the same without the traceback."""
    text = str(error)
    if "\nOriginal Traceback" in text:
        text = text.strip().splitlines()[-1].partition(": ")[2]
    return " ".join(text.split())


def _lead(record: Record, loop, rows: "_Rows", display, mend: bool) -> dict:
    config, world = record.config, loop.state.world
    fresh = config.settings["fresh"]
    checkpoints = Checkpoints(record.file("checkpoints"), loop.training.checkpoint_every)
    if not fresh and not mend and record.state not in ("stale", "damaged"):
        checkpoints.newest()  # damage is said before anything is written
    record.claim.take()
    try:
        state = record.state  # others may have been at it while we got ready
        if state == "done" and not fresh:
            world.tell(STAY)
            return _already(record, display)
        data, before = data_fingerprint(loop.state.data), (record.store.environment(record.id) or {}).get("data")
        if fresh and state != "done":  # what it has itself begun, on this data, goes on: the same command ends some time
            fresh = data != before or not (record.store.config(record.id) or {}).get("fresh")
        saved = None
        if fresh or state in ("stale", "damaged"):
            _set_aside(record, "old" if fresh else state, display)
        else:
            saved = _saved(record, checkpoints, display)
        world.tell(saved)
        if saved:
            snapshot.load(loop, saved)
            moved = (saved["cuda"] is None) == (loop.state.device.type == "cuda")
            display.say(f"run {record.id} goes on at step {loop.state.step}" + ", on another device: its numbers differ from here on" * moved)
        if saved and before not in (None, data):  # of another machine it may differ in the last digits
            display.say(f"the data of run {record.id} is not what it began with (fingerprint {data}, was {before}); 'fresh=true' begins again")
        record.open(saved["extra"] if saved else None, data)
        for line in beyond(config, loop.state.clock):
            display.say(line)
        with contextlib.closing(Sinks([c.build() for c in config["logger"]], record, display.say)) as sinks:
            rows.start(record, sinks, loop)
            return _train(record, loop, checkpoints, sinks, display)
    finally:
        record.claim.free()


def _saved(record: Record, checkpoints: Checkpoints, display) -> dict | None:
    """The checkpoint to go on from; None, with the record set aside, where it or the metrics up to it are damaged."""
    try:
        saved = checkpoints.load(display.say)
    except Damaged as error:
        display.say(str(error))
    else:
        if saved is None or record.holds(saved["extra"]):
            return saved
        display.say(f"{record.file('metrics.jsonl')} is damaged, the run starts again")
    _set_aside(record, "damaged", display)
    return None


def _follow(loop, rows: "_Rows") -> None:
    """Take every step of the first process along with it; only that one is told to stop, and writes."""

    def after_step(loop):
        if loop.state.world.decide(False):
            snapshot.save(loop)  # the others' parts of what the first process writes

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    saved = loop.state.world.tell()
    if saved != STAY:
        if saved:
            snapshot.load(loop, saved)
        rows.loop = loop
        loop.run(after_step)
        if loop.state.world.sharded:
            snapshot.save(loop)


def _already(record: Record, display) -> dict:
    display.say(f"run {record.id} is done already; 'fresh=true' runs it again")
    return record.store.done(record.id)


def _set_aside(record: Record, why: str, display) -> None:
    what = {"old": "of before", "stale": "of other code or other files", "damaged": "that is damaged"}[why]
    if record.file("config.json").exists():
        display.say(f"the record {what} is kept as {record.set_aside(why)}")


def _train(record: Record, loop, checkpoints: Checkpoints, sinks: Sinks, display) -> dict:
    record.log(f"start at step {loop.state.step}")
    record.claim.progress = {"step": loop.state.step, "total": loop.state.clock.total}

    def after_step(loop):
        record.claim.progress["step"] = loop.state.step
        display.step(loop)
        checkpoints.after_step(loop, record.position)

    try:
        with _stoppable(checkpoints), display.running(record, loop):
            summary = loop.run(after_step)
        checkpoints.save(loop.state.step, {**snapshot.save(loop), "extra": record.position()})
    except Stopped as stopped:
        record.log(str(stopped))
        record.close()
        raise
    except NotFinite as error:
        _fail(record, {"error": str(error), **error.record})
        raise Failed(f"{error}; the record is in {record.folder}") from error
    except UserError as error:
        error.args = (_line(error),)
        _fail(record, {"error": str(error), "step": loop.state.step})
        raise
    except OSError as error:  # a full disk: what was written stays, and the next start goes on from the last checkpoint
        with contextlib.suppress(OSError):
            _fail(record, {"error": _line(error), "step": loop.state.step})
        raise Failed(f"{_line(error)}; the record is in {record.folder}") from error
    except Exception as error:
        text = traceback.format_exc()
        record.log(text)
        _fail(record, {"error": f"{type(error).__name__}: {_line(error)}", "step": loop.state.step, "traceback": text})
        raise Failed(f"{type(error).__name__}: {_line(error)}; see {record.file('log.txt')}") from error
    done = {"summary": summary, "steps": loop.state.step, "seconds": record.spent(), "finished": time.time()}
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
        self.display, self.record, self.loop = display, None, None  # without a record, as in a process that follows, rows go nowhere

    def start(self, record: Record, sinks: Sinks, loop) -> None:
        self.record, self.sinks, self.loop = record, sinks, loop
        self.time, self.step = time.time(), loop.state.step

    def __call__(self, row: dict) -> None:
        digits = fingerprint(self.loop) if self.record or self.loop.state.world.sharded else None
        if self.record is None:
            return
        now = time.time()
        rate = (row["step"] - self.step) / max(1e-9, now - self.time)
        self.time, self.step = now, row["step"]
        self.record.add({**row, "hash": digits})
        self.record.add_timing({"step": row["step"], "time": now, "steps_per_second": round(rate, 3)})
        self.sinks.log(row)
        self.display.row(row)
