"""The record of a run: a folder that is whole at every moment, whatever happens to the process that writes it.

config.json        the resolved config, plain data
environment.json   versions, device, commit, fingerprints
metrics.jsonl      one row a measurement; the same bits however often the run was interrupted
timing.jsonl       when each row was written, and how fast it went
log.txt            what happened
checkpoints/
failed.json        how it ended, if it failed
done.json          the summary, written last: the run is done
"""

import json
import math
import os
import platform
import socket
import subprocess
import time
from pathlib import Path

from runner.config.bind import Config
from runner.config.places import checkout
from runner.core.errors import UserError
from runner.execution.identity import code_fingerprint, run_id


def store_folder(config: Config) -> Path:
    """Where records are: `store`, else RUNNER_STORE, else `runs` in the current folder."""
    return Path(config.settings["store"] or os.environ.get("RUNNER_STORE") or "runs")


def write_json(file: Path, content: dict) -> None:
    """Write a file atomically: it is there whole, or not at all."""
    part = file.with_name(f".{file.name}-{os.getpid()}")
    try:
        with part.open("w") as stream:
            json.dump(content, stream, indent=1, default=str)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def read_json(file: Path) -> dict | None:
    """The content, None if the file is not there or not whole."""
    try:
        return json.loads(file.read_text())
    except (FileNotFoundError, ValueError):
        return None


class Record:
    """One run's folder, `STORE/ID`."""

    def __init__(self, config: Config):
        self.config, self.id = config, run_id(config)
        self.folder = store_folder(config) / self.id
        self.code = code_fingerprint(config)
        self._metrics = None

    def file(self, name: str) -> Path:
        return self.folder / name

    @property
    def done(self) -> dict | None:
        return read_json(self.file("done.json"))

    @property
    def stale(self) -> bool:
        """Whether there is a record and other code wrote it."""
        environment = read_json(self.file("environment.json"))
        return environment is not None and environment.get("code") != self.code

    def set_aside(self, why: str) -> Path:
        """Keep an old record beside the new one: nothing is deleted."""
        k = 1
        while (aside := self.folder.with_name(f"{self.id}.{why}-{k}")).exists():
            k += 1
        self.folder.rename(aside)
        return aside

    def open(self, offset: int, data: str) -> None:
        """Begin or go on writing; metrics behind `offset` bytes are from after the checkpoint and are written again."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock()
        write_json(self.file("config.json"), self.config.plain())
        write_json(self.file("environment.json"), {**environment(), "code": self.code, "data": data})
        self.file("failed.json").unlink(missing_ok=True)
        self._metrics = self.file("metrics.jsonl").open("ab")
        self._metrics.truncate(offset)
        self._metrics.seek(offset)

    def _lock(self) -> None:
        """One process a run. A lock whose process is gone is taken over."""
        lock = self.file("running.json")
        mine = {"pid": os.getpid(), "host": socket.gethostname(), "born": _born(os.getpid())}
        other = read_json(lock)
        if other and other["host"] == mine["host"] and other["pid"] != mine["pid"] and _born(other["pid"]) == other["born"]:
            raise UserError(f"run {self.id} is being run by process {other['pid']}; wait for it or stop it")
        write_json(lock, mine)

    def add(self, row: dict) -> None:
        """Append a row of metrics."""
        row = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        self._metrics.write(json.dumps(row).encode() + b"\n")
        self._metrics.flush()

    def add_timing(self, row: dict) -> None:
        with self.file("timing.jsonl").open("a") as stream:
            stream.write(json.dumps(row) + "\n")

    def position(self) -> dict:
        """What a checkpoint must know of the record."""
        os.fsync(self._metrics.fileno())
        return {"metrics": self._metrics.tell()}

    def log(self, line: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.file("log.txt").open("a") as stream:
            stream.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")

    def rows(self) -> list[dict]:
        if not self.file("metrics.jsonl").exists():
            return []
        return [json.loads(line) for line in self.file("metrics.jsonl").read_text().splitlines()]

    def close(self, name: str | None = None, content: dict | None = None) -> None:
        """End writing; with `done.json` or `failed.json` and its content."""
        if self._metrics is not None:
            os.fsync(self._metrics.fileno())
            self._metrics.close()
            self._metrics = None
        if name:
            write_json(self.file(name), content)
        self.file("running.json").unlink(missing_ok=True)


def _born(pid: int) -> str | None:
    """When a process started, in ticks since the machine did: tells it from a later one of the same number. None if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        pass
    try:
        os.kill(pid, 0)  # no /proc on this system
    except OSError:
        return None
    return "running"


def environment() -> dict:
    """Versions, machine and commit."""
    import torch

    from runner import __version__

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "runner": __version__, "python": platform.python_version(), "torch": torch.__version__, "cuda": torch.version.cuda, "gpu": gpu,
        "machine": platform.machine(), "cpus": os.cpu_count(), "commit": commit(),
    }  # fmt: skip


def commit() -> str | None:
    """The checkout's commit, with `+` when it has uncommitted changes."""
    root = checkout()
    if root is None:
        return None
    try:
        run = lambda *a: subprocess.run(["git", *a], cwd=root, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
        return run("rev-parse", "--short=12", "HEAD") + ("+" if run("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None
