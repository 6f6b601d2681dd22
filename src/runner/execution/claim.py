"""The right to write a record: one process at a time, over any shared file system, without a server and without clocks.

A claim is a file `claim-N.json`, made by a hard link, which succeeds for one process alone. The highest N counts; nobody deletes one. Its
holder renews it every second and sets it free at the end. Who finds it free, or its holder dead, may make N + 1.
"""

import contextlib
import json
import os
import socket
import threading
import time
from pathlib import Path

from runner.core.errors import UserError

BEAT = 1.0  # seconds between two renewals
PATIENCE = 30.0  # seconds without a renewal after which a process of another machine counts as dead


class Busy(UserError):
    """Another process holds the claim."""


def latest(folder: Path) -> tuple[int, dict | None]:
    """Number and content of the claim that counts; 0 and None if there was none yet."""
    numbers = [int(f.stem.partition("-")[2]) for f in folder.glob("claim-*.json")]
    if not numbers:
        return 0, None
    try:
        return max(numbers), json.loads((folder / f"claim-{max(numbers)}.json").read_text())
    except (OSError, ValueError):
        return max(numbers), None


def alive(content: dict | None) -> bool | None:
    """Whether another process holds a claim and works on; None if it is on another machine, where only its renewals can tell."""
    if not content or content.get("free"):
        return False
    if content["host"] != socket.gethostname():
        return None
    mine = content["pid"] == os.getpid()
    return not mine and content["boot"] == _boot() and born(content["pid"]) == content["born"]


class Claim:
    """The claim of this process on a folder.

    Args:
        folder: the record.
        lost: called when another process took the claim over, from a thread; this process must not write any more.
    """

    def __init__(self, folder: Path, lost=lambda: os._exit(75)):
        self.folder, self.lost = folder, lost
        self.progress: dict = {}  # shown to whoever looks: step, total
        self._stop = threading.Event()

    def take(self, patience: float = PATIENCE) -> None:
        """Raises Busy if another process holds it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        number, other = latest(self.folder)
        works = alive(other)
        if works is None:  # on another machine: does it renew its claim while we look?
            until = time.monotonic() + patience
            while time.monotonic() < until and (number, other) == latest(self.folder):
                time.sleep(min(BEAT, patience) / 4)
            works = (number, other) != latest(self.folder)
        if works:
            raise Busy(f"run {self.folder.name} is being run by process {other['pid']} on {other['host']}; wait for it or stop it")
        self.mine = {"host": socket.gethostname(), "boot": _boot(), "pid": os.getpid(), "born": born(os.getpid()), "beat": 0}
        self.number = number + 1
        self.file = self.folder / f"claim-{self.number}.json"
        try:
            part = self._write(self.mine)
            try:
                os.link(part, self.file)
            finally:
                part.unlink(missing_ok=True)
            first = latest(self.folder)[0] == self.number  # else another process has put a new record here, with a higher claim of its own
        except (FileExistsError, FileNotFoundError):
            first = False
        if not first:
            raise Busy(f"run {self.folder.name} was taken by another process this moment")
        self._begin()

    def _begin(self) -> None:
        self._stop.clear()
        self._thread = threading.Thread(target=self._renew, daemon=True)
        self._thread.start()

    @contextlib.contextmanager
    def moving(self, new: Path):
        """While the record is replaced by the folder `new`, which gets the next claim of this process."""
        self._stop.set()
        self._thread.join()
        self.number += 1
        self.file = self.folder / f"claim-{self.number}.json"
        new.mkdir()
        (new / self.file.name).write_text(json.dumps(self.mine))
        yield
        self._begin()

    def free(self) -> None:
        """Let others have it."""
        self._stop.set()
        self._thread.join()
        if self.file.exists():
            with contextlib.suppress(OSError):  # on a full disk it is free when this process ends
                self._write({**self.mine, "free": True}).replace(self.file)

    def _write(self, content: dict) -> Path:
        part = self.folder / f".claim-{os.getpid()}-{threading.get_ident()}"
        part.write_text(json.dumps(content))
        return part

    def _renew(self) -> None:
        while not self._stop.wait(BEAT):
            if (self.folder / f"claim-{self.number + 1}.json").exists():
                self.lost()
                return
            self.mine = {**self.mine, **self.progress, "beat": self.mine["beat"] + 1}
            with contextlib.suppress(OSError):  # a full disk is the run's own trouble
                self._write(self.mine).replace(self.file)


def _boot() -> str:
    """Tells a machine's processes from those of before it was started again."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    except OSError:
        return ""


def born(pid: int) -> str | None:
    """When a process started, in ticks since the machine did: tells it from a later one of the same number. None if there is none."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if state in "ZX" else fields[18]
    except OSError:
        pass
    try:
        os.kill(pid, 0)  # no /proc on this system
    except OSError:
        return None
    return "running"
