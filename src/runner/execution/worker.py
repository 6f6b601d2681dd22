"""What a process of a sweep does: one job, with its output in a log of its own."""

import contextlib
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path

from runner.config import registry
from runner.config.bind import bind
from runner.core.errors import Stopped, UserError
from runner.execution.claim import Busy, born
from runner.execution.store import Store

DONE, FAILED, BUSY, STOPPED = 0, 1, 3, 130  # exit statuses


def log_file(store: Path | str, run: str) -> Path:
    return Path(store) / "logs" / f"{run}.txt"


def work(run: str, plain: dict, store: str, folders: list[str], code: str | None, tied: int | None = None) -> int:
    """Run a job of a plan.

    Args:
        run: its id.
        plain: its config.
        store: absolute path of the store.
        folders: the user's own component folders.
        code: fingerprint of the code that is loaded, where that may be older than the files; None to take the files'.
        tied: a process without which this one stops, as if asked to: the sweep's, where both are on one machine.

    Returns:
        An exit status: DONE, FAILED (failed.json says why), BUSY (another process runs it), STOPPED (it has saved itself).
    """
    from runner.execution.run import Failed, execute  # torch: not for those who only want to know about logs

    with _output(log_file(store, run)):
        print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} run {run}, process {os.getpid()}", flush=True)
        if tied:
            threading.Thread(target=_follow, args=(tied,), daemon=True).start()
        try:
            for folder in folders:
                registry.add_folder(folder)
            execute(bind({**plain, "store": store}), Log(), code, mend=True)
            return DONE
        except Busy as error:
            print(error)
            return BUSY
        except Failed as error:
            print(error)
            return FAILED
        except (Stopped, KeyboardInterrupt) as stopped:
            print(stopped or "interrupted")
            return STOPPED
        except UserError as error:
            print(error)
            _fail(store, run, str(error))
            return FAILED
        except Exception as error:
            traceback.print_exc()
            _fail(store, run, f"{type(error).__name__}: {error}")
            return FAILED


def _fail(store: str, run: str, error: str) -> None:
    with contextlib.suppress(OSError):
        Store(store).fail(run, {"error": error})


class Log:
    """The display of a process that nobody looks at."""

    def say(self, line: str) -> None:
        print(line, flush=True)

    @contextlib.contextmanager
    def running(self, record, loop):
        yield

    def step(self, loop) -> None:
        pass

    def row(self, row: dict) -> None:
        pass


def _follow(parent: int) -> None:
    """Ask this process to save itself and stop when another one is gone."""
    first = born(parent)
    while first is not None and born(parent) == first:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)


class _Lossy:
    """A log that does without what a full disk does not take."""

    def __init__(self, stream):
        self.stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self.stream.flush()

    def __getattr__(self, name: str):
        return getattr(self.stream, name)


@contextlib.contextmanager
def _output(file: Path):
    """Let everything that the process prints, C code too, go to the end of a file."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        stream = _Lossy(file.open("a", buffering=1))
    except OSError:  # a full disk must not cost the job its say
        yield
        return
    kept = [os.dup(1), os.dup(2)]
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
        with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
            yield
    finally:
        os.dup2(kept[0], 1)
        os.dup2(kept[1], 2)
        for handle in kept:
            os.close(handle)
        with contextlib.suppress(OSError):
            stream.close()
