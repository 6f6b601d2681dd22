"""The process that jobs are forked from, multiprocessing's fork server: one for this process. `_server` is what it imports first."""

import atexit
import contextlib
import json
import multiprocessing
import os
import signal
import time
from multiprocessing import forkserver, resource_tracker

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",  # a fork of a process with threads may hang
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",  # large pages: half of the time to fork and to end a process with torch
}
_needs: dict[str, str] = {}  # what the server is told, a line each: the module, and what jobs have
_told: dict[str, int] = {}  # the server that was told last, and the pipe that it still listens to


def begin(module: str) -> None:
    """Have a server import a module, and wait there to be told what jobs need. Nothing happens where one runs."""
    _needs.setdefault("module", module)
    multiprocessing.get_context("forkserver").set_forkserver_preload(["runner.components.launcher._server"])
    atexit.register(end)
    with _beginning():
        forkserver.ensure_running()


def tell(**needs) -> None:
    """Let the server call the module's `warm(**needs)`; jobs are forked after it. It is told once."""
    if "jobs" not in _needs:
        _needs["jobs"] = json.dumps(needs)
        with contextlib.suppress(KeyError, BrokenPipeError):  # it has not begun, it has died; the next is told all
            _say("jobs", _told["pipe"])


def start(process: multiprocessing.Process) -> int:
    """Have the server fork a process; another server where it has died. Returns the server's number. Raises OSError, EOFError if it dies this moment."""
    with _beginning():
        process.start()
    return forkserver._forkserver._forkserver_pid


def died(server: int, patience: float = 1.0) -> bool:
    """Whether a server is dead, or dies now."""
    until = time.monotonic() + patience
    try:
        while os.waitid(os.P_PID, server, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            if time.monotonic() > until:
                return False
            time.sleep(0.01)
    except ChildProcessError:  # multiprocessing has seen it
        pass
    return True


def end() -> None:
    """End it at once, also while it imports: whoever reads this process's output would wait for it."""
    with contextlib.suppress(OSError, TypeError):  # it has ended, it never began
        os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)


def _say(line: str, pipe: int) -> None:
    os.write(pipe, f"{_needs[line]}\n".encode())


@contextlib.contextmanager
def _beginning():
    """A server that begins meanwhile is told what is known; blind to Ctrl-C like its jobs: that is for the sweep alone, from the first moment on."""
    resource_tracker.ensure_running()  # it unblocks Ctrl-C at its own start
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with _standard_input() as pipe, _environment():
            for line in _needs:
                _say(line, pipe)
            try:
                yield
            finally:
                if (pid := forkserver._forkserver._forkserver_pid) == _told.get("pid"):
                    os.close(pipe)
                else:
                    if "pipe" in _told:
                        os.close(_told["pipe"])
                    _told.update(pid=pid, pipe=pipe)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _standard_input():
    """Let what begins meanwhile read a new pipe. Yields the end to write to."""
    try:
        kept = os.dup(0)
    except OSError:  # closed
        kept = os.open(os.devnull, os.O_RDONLY)
    read, write = os.pipe()
    os.dup2(read, 0)
    os.close(read)
    try:
        yield write
    finally:
        os.dup2(kept, 0)
        os.close(kept)


@contextlib.contextmanager
def _environment():
    """Not for this process: `${oc.env:...}` in a config may read its own."""
    added = {key: value for key, value in ENVIRONMENT.items() if key not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for key in added:
            del os.environ[key]
