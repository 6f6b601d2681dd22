"""The store: a folder with one record a run, `STORE/ID`. What state a run is in is read from its files alone, by any process at any time."""

import hashlib
import json
import math
import os
import re
import statistics
from collections.abc import Iterator
from pathlib import Path

from runner.config.bind import Config
from runner.execution import claim
from runner.execution.identity import file_fingerprint

STATES = ("done", "running", "failed", "stale", "damaged", "stopped", "missing")
_ID = re.compile(r"[0-9a-f]{12}")


def folder(asked: str | None = None) -> Path:
    """Where records are: what the config key `store` says, else RUNNER_STORE, else `runs` in the current folder."""
    return Path(os.path.expanduser((asked or os.environ.get("RUNNER_STORE") or "runs").strip("'\"")))  # as given: in quotes, where nothing has parsed it


def folder_of(config: Config) -> Path:
    return folder(config.settings["store"])


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
        return json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None


def digest(file: Path) -> str | None:
    """A hash of a file's bytes, None if it is not there."""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    except OSError:
        return None


class Store:
    """A folder of records."""

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)

    def file(self, run: str, name: str) -> Path:
        return self.folder / run / name

    def ids(self) -> Iterator[str]:
        """All runs that have a record, oldest first."""
        found = [f for f in self.folder.glob("*") if _ID.fullmatch(f.name) and f.is_dir()]
        yield from (f.name for f in sorted(found, key=lambda f: f.stat().st_mtime))

    def done(self, run: str) -> dict | None:
        """`summary`, `steps`, `seconds`, ... of a run that ended well."""
        return read_json(self.file(run, "done.json"))

    def failed(self, run: str) -> dict | None:
        return read_json(self.file(run, "failed.json"))

    def config(self, run: str) -> dict | None:
        return read_json(self.file(run, "config.json"))

    def environment(self, run: str) -> dict | None:
        return read_json(self.file(run, "environment.json"))

    def fail(self, run: str, content: dict) -> None:
        """Say why a run failed that could not say so itself."""
        (self.folder / run).mkdir(parents=True, exist_ok=True)
        write_json(self.file(run, "failed.json"), content)

    def rows(self, run: str) -> list[dict]:
        """The metrics that were measured; what a crash left of a line is not one."""
        try:
            lines = self.file(run, "metrics.jsonl").read_text().splitlines()
        except (OSError, UnicodeDecodeError):
            return []
        found = []
        for line in lines:
            try:
                found.append(json.loads(line))
            except ValueError:
                break
        return found

    def measured(self, run: str, metric: str) -> float | None:
        """What a finished run says of a metric: one of its summary, or METRIC_lastN, the mean of its last N measurements; None where it has no such."""
        summary = (self.done(run) or {}).get("summary", {})
        name, _, many = metric.rpartition("_last")
        if metric in summary or not many.isdecimal() or f"{name}_last" not in summary:
            return summary.get(metric)
        found = [math.nan if row[name] is None else row[name] for row in self.rows(run) if name in row][-int(many) :]
        return statistics.fmean(found) if len(found) == int(many) > 0 else None

    def state(self, run: str, code: str | None = None) -> str:
        """One of STATES.

        done: whole, and of this code. stale: whole, but `outdated`. damaged: its metrics are not those that were written. stopped: begun, and can
        be gone on with. running: a process holds its claim.

        Args:
            code: fingerprint of the code that would compute it now; None to ask no question about it, nor about files.
        """
        if not (self.folder / run).is_dir():
            return "missing"
        done = self.done(run)
        if done is None:
            if claim.alive(claim.latest(self.folder / run)[1]) is not False:
                return "running"
            if self.file(run, "failed.json").exists():
                return "failed"
            return "stopped" if any(self.file(run, "checkpoints").glob("*.pt")) else "missing"
        if done.get("metrics") != digest(self.file(run, "metrics.jsonl")):
            return "damaged"
        return "stale" if code is not None and self.outdated(run, code) else "done"

    def outdated(self, run: str, code: str) -> bool:
        """Whether other code wrote a record, or a file that its config names is not what it was. A file that is not here may be what it was."""
        about = self.environment(run) or {}
        return about.get("code") != code or any(file_fingerprint(name) not in (None, digits) for name, digits in about.get("files", {}).items())
