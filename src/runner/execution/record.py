"""The record of a run: a folder that is whole at every moment, whatever happens to the process that writes it.

config.json        the resolved config, plain data
environment.json   versions, device, commit, fingerprints
metrics.jsonl      one row a measurement; the same bits however often the run was interrupted
timing.jsonl       when each row was written, and how fast it went
log.txt            what happened
checkpoints/
claim-N.json       who writes it
failed.json        how it ended, if it failed
done.json          the summary, written last: the run is done
"""

import functools
import hashlib
import json
import math
import os
import platform
import shutil
import subprocess
import time
from pathlib import Path

from runner.config.bind import Config
from runner.config.places import checkout
from runner.execution.claim import Busy, Claim
from runner.execution.identity import code_fingerprint, named_files, run_id
from runner.execution.store import Store, folder_of, write_json


class Record:
    """One run's folder, `STORE/ID`, for the process that runs it."""

    def __init__(self, config: Config, code: str | None = None):
        self.config, self.id = config, run_id(config)
        self.store = Store(folder_of(config))
        self.folder = self.store.folder / self.id
        self.code = code or code_fingerprint(config)
        self.claim = Claim(self.folder)
        self._metrics, self._digest = None, hashlib.sha256()

    def file(self, name: str) -> Path:
        return self.folder / name

    @property
    def state(self) -> str:
        """See `Store.state`; a record that was only begun is stale too, where it is outdated."""
        found = self.store.state(self.id, self.code)
        begun = found in ("stopped", "failed", "missing") and self.store.environment(self.id)
        return "stale" if begun and self.store.outdated(self.id, self.code) else found

    def set_aside(self, why: str) -> Path:
        """Keep an old record beside the new one: nothing is deleted. The claim is on the new one then."""
        k = 1
        while (aside := self.folder.with_name(f"{self.id}.{why}-{k}")).exists():
            k += 1
        new = self.folder.with_name(f".{self.id}-{os.getpid()}")
        with self.claim.moving(new):
            self.folder.rename(aside)
            try:
                new.rename(self.folder)
            except OSError:  # another process began a new record between the two
                shutil.rmtree(new)
                raise Busy(f"run {self.id} was taken by another process this moment") from None
        return aside

    def holds(self, position: dict) -> bool:
        """Whether the metrics up to a checkpoint's position are those that were written."""
        written = self.file("metrics.jsonl").read_bytes()[: position["metrics"]] if self.file("metrics.jsonl").exists() else b""
        return len(written) == position["metrics"] and hashlib.sha256(written).hexdigest() == position["digest"]

    def open(self, position: dict | None, data: str) -> None:
        """Begin or go on writing; metrics behind a checkpoint's position are written again. The claim must be taken."""
        offset = position["metrics"] if position else 0
        self.seconds, self.opened = position["seconds"] if position else 0.0, time.monotonic()
        write_json(self.file("config.json"), self.config.plain())
        write_json(self.file("environment.json"), {**environment(), "code": self.code, "files": named_files(self.config), "data": data})
        self.file("failed.json").unlink(missing_ok=True)
        self._metrics = self.file("metrics.jsonl").open("a+b")
        self._metrics.truncate(offset)
        self._metrics.seek(0)
        self._digest.update(self._metrics.read())

    def add(self, row: dict) -> None:
        """Append a row of metrics."""
        row = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        line = json.dumps(row).encode() + b"\n"
        self._metrics.write(line)
        self._metrics.flush()
        self._digest.update(line)

    def add_timing(self, row: dict) -> None:
        with self.file("timing.jsonl").open("a") as stream:
            stream.write(json.dumps(row) + "\n")

    def position(self) -> dict:
        """What a checkpoint must know of the record."""
        os.fsync(self._metrics.fileno())
        return {"metrics": self._metrics.tell(), "digest": self._digest.hexdigest(), "seconds": self.spent()}

    def spent(self) -> float:
        """Seconds of all the processes that ran it, up to now."""
        return round(self.seconds + time.monotonic() - self.opened, 3)

    def log(self, line: str) -> None:
        with self.file("log.txt").open("a") as stream:
            stream.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")

    def rows(self) -> list[dict]:
        return self.store.rows(self.id)

    def close(self, name: str | None = None, content: dict | None = None) -> None:
        """End writing; with `done.json` or `failed.json` and its content."""
        if self._metrics is not None:
            os.fsync(self._metrics.fileno())
            self._metrics.close()
            self._metrics = None
        if name == "done.json":
            content["metrics"] = self._digest.hexdigest()[:16]
        if name:
            write_json(self.file(name), content)


def environment() -> dict:
    """Versions, machine and commit."""
    import torch

    from runner import __version__

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "runner": __version__, "python": platform.python_version(), "torch": torch.__version__, "cuda": torch.version.cuda, "gpu": gpu,
        "machine": platform.machine(), "cpus": os.cpu_count(), "commit": commit(),
    }  # fmt: skip


@functools.cache
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
