"""This machine: a process a job, forked from a server that has torch imported; so many at once a device."""

import multiprocessing
import os
import signal
import sys
import time
from multiprocessing.connection import wait
from pathlib import Path

from runner import card
from runner.components.launcher import _forks
from runner.core.errors import UserError

CARD = card()


class Local:
    """See `runner.execution.pool` for what a launcher does."""

    frozen = True  # edits of files after the start change nothing
    queues = False

    def __init__(self, slots: int | None):
        self.slots = slots
        self.processes: dict[str, multiprocessing.Process] = {}
        self.servers: dict[str, int] = {}  # job -> what forked it
        self.places: dict[str, int] = {}  # job -> slot

    def capacity(self, threads: int) -> int:
        devices = len(gpus())
        return (self.slots or (1 if devices else max(1, cores() // max(1, threads)))) * max(1, devices)

    def start(self, work, warm: str, components: list, folders: list[str], threads: int) -> None:
        self.work, self.devices, self.total = work, gpus(), self.capacity(threads)
        self.prepare(warm)
        self.expect(components, folders)

    def prepare(self, warm: str) -> None:
        _forks.begin(warm)

    def expect(self, components: list, folders: list[str]) -> None:
        _forks.tell(components=components, folders=folders)

    def room(self) -> int:
        return self.total - len(self.processes)

    def submit(self, job: str, arguments: tuple) -> None:
        slot = next(k for k in range(self.total) if k not in self.places.values())
        device = self.devices[slot % len(self.devices)] if self.devices else None
        self.processes[job], self.servers[job] = self._forked(name=job, args=(self.work, (*arguments, os.getpid()), device))
        self.places[job] = slot

    def _forked(self, **about) -> tuple[multiprocessing.Process, int]:
        for _ in range(3):
            process = multiprocessing.get_context("forkserver").Process(target=_run, **about)
            try:
                return process, _forks.start(process)
            except (EOFError, OSError):
                time.sleep(0.5)  # the server died this moment; once it is gone, multiprocessing starts another
        raise UserError("the process that forks the jobs died three times; is there memory for it?")

    def ended(self, seconds: float) -> list[tuple[str, int | None]]:
        wait([p.sentinel for p in self.processes.values()], seconds)
        found = [(job, self._status(job, p.exitcode)) for job, p in self.processes.items() if p.exitcode is not None]
        for job, _ in found:
            self.processes.pop(job).close()
            del self.places[job], self.servers[job]
        return found

    def _status(self, job: str, code: int) -> int | None:
        """multiprocessing says 255 where the server died, which alone would have known; the job may go on."""
        return None if code == 255 and _forks.died(self.servers[job]) else code

    def stop(self, job: str, kill: bool = False) -> None:
        process = self.processes[job]
        process.kill() if kill else process.terminate()

    def close(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.join()


def _run(work, arguments, device) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the sweep, which asks with SIGTERM
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    sys.exit(work(*arguments))


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() and name.strip() != "-1"]
    if not Path("/dev/nvidiactl").exists():
        return []
    import torch

    return [str(k) for k in range(torch.cuda.device_count())]


def build(slots: int | None = None):
    """Run here.

    Args:
        slots: >= 1; jobs at once on a GPU, or in all without one; by default one a GPU, or as many as the cores have room for. Does not change the result.
    """
    return Local(slots)
