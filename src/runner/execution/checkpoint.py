"""Checkpoints: written whole or not at all, named by what they hold, loaded as data only."""

import hashlib
import os
import re
import time
from pathlib import Path

import torch

from runner.core import snapshot
from runner.core.errors import Stopped, UserError

KEEP = 2
_NAME = re.compile(r"(\d+)-([0-9a-f]{16})\.pt")


def digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


class Damaged(UserError):
    """There are checkpoints, and none is whole."""


class Checkpoints:
    """The checkpoints of one run: `FOLDER/STEP-DIGEST.pt`, the newest two.

    Args:
        folder: where they are; made at the first save.
        every: seconds between two saves.
    """

    def __init__(self, folder: Path, every: float):
        self.folder, self.every = folder, every
        self.saved = time.monotonic()
        self.stop = False  # set by a signal: save at the next step's end and stop

    def files(self) -> list[Path]:
        """All of them, newest first."""
        found = [p for p in self.folder.glob("*.pt") if _NAME.fullmatch(p.name)]
        return sorted(found, key=lambda p: int(p.name.split("-")[0]), reverse=True)

    def after_step(self, loop, extra) -> None:
        """Save when it is time. Raises Stopped after saving when asked to stop."""
        if loop.state.world.decide(self.stop or time.monotonic() - self.saved >= self.every):
            self.save(loop.state.step, {**snapshot.save(loop), "extra": extra()})
            if self.stop:
                raise Stopped(f"stopped at step {loop.state.step}; the same command goes on from there")

    def save(self, step: int, content: dict) -> Path:
        """Write a checkpoint atomically and drop the oldest."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for left in self.folder.glob("part-*"):
            left.unlink(missing_ok=True)  # of a process that was killed while it saved
        part = self.folder / f"part-{os.getpid()}"
        try:
            with part.open("wb") as stream:
                try:
                    torch.save(content, stream)
                except RuntimeError as error:  # torch hides what the disk said behind an error of its own
                    if isinstance(error.__context__, OSError):
                        raise error.__context__ from None
                    raise
                stream.flush()
                os.fsync(stream.fileno())
            file = self.folder / f"{step:09d}-{digest(part)}.pt"
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)
        for old in [f for f in self.files() if f != file][KEEP - 1 :]:
            old.unlink(missing_ok=True)
        self.saved = time.monotonic()
        return file

    def newest(self, say=lambda line: None) -> Path | None:
        """The newest whole checkpoint, None if there is none at all.

        Raises:
            Damaged: there are checkpoints and none is whole.
        """
        files = self.files()
        for file in files:
            if digest(file) == file.stem.split("-")[1]:
                return file
            say(f"checkpoint {file} is damaged" + ("; trying the one before" if file != files[-1] else ""))
        if files:
            raise Damaged(f"checkpoint {files[0]} is damaged and no older one is whole; 'fresh=true' starts the run again")
        return None

    def load(self, say=lambda line: None) -> dict | None:
        """The content of the newest whole checkpoint; see `newest`."""
        file = self.newest(say)
        return file and torch.load(file, map_location="cpu", weights_only=True)
