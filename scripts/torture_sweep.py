"""Torture a sweep of many short jobs: kill, interrupt and damage it at random moments, start the same command again and again, and compare
its records with those of an undisturbed sweep.

    python scripts/torture_sweep.py --jobs 200 --seed 0          # counts of what was done to it, and a row in results/torture.csv

Needs Linux (/proc). The disk is full only for root, who may mount a small tmpfs as the store. The clock is moved by years, to the past and future: Python's
`time.time` of all processes to come, and the times of files that are there.
"""

import argparse
import contextlib
import csv
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STUCK = 600.0  # seconds after which a command that was asked to stop should have
SAID = re.compile(r"runner: |\[\d+/\d+\] ")  # how lines of the command begin
ENDS = {0, 1, 2, 130, -signal.SIGINT, -signal.SIGKILL}  # done, failed jobs, a full disk while it plans, stopped, Ctrl-C while Python exits, killed
CLOCK = """
import os, time
true = time.time
time.time = lambda: true() + 3600 * int(os.environ["TORTURE_HOURS"])
"""  # a sitecustomize.py
FAULTS = (
    "kill_worker", "kill_parent", "kill_all", "kill_server", "interrupt", "interrupt_twice", "fill_disk", "damage_checkpoint", "damage_metrics",
    "damage_plan", "second_sweep", "move_clock",
)  # fmt: skip


def overrides(jobs: int, first: int = 0) -> list[str]:
    """Four settings of `jobs / 4` seeds from `first` on."""
    return [
        "+recipe=noisy_labels", "scale=smoke", "trainer.duration=30ep", "trainer.checkpoint_every=0.1", "model.dropout=0.2", "loss=ce,gce",
        "noise.rate=0.2,0.4", f"seed=range({first},{first + jobs // 4})", "launcher.slots=2", "display=plain",
    ]  # fmt: skip


class Command:
    """One start of a sweep, in a session of its own as in a terminal, where Ctrl-C reaches all its processes."""

    def __init__(self, store: Path, wanted: list[str], said: Path, hours: int = 0):
        self.said = said
        (said.parent / "sitecustomize.py").write_text(CLOCK)
        env = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{said.parent}", "OMP_NUM_THREADS": "1", "TORTURE_HOURS": str(hours)}
        with said.open("w") as stream:
            command = [sys.executable, "-m", "runner", "-m", *wanted, f"store={store}"]
            self.process = subprocess.Popen(
                command, cwd=store.parent, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stream, start_new_session=True
            )

    def works(self) -> bool:
        return self.process.poll() is None

    def processes(self, role: str) -> list[int]:
        """Those alive: `parent` is the command's own, `server` the one that forks, `worker` runs a job."""
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            try:
                state, parent, _, session, *_ = (place / "stat").read_text().rpartition(")")[2].split()
                line = (place / "cmdline").read_bytes()
            except OSError:
                continue
            if int(session) == self.process.pid and state not in "ZX":
                own = int(place.name) == self.process.pid
                forked = ("server" if int(parent) == self.process.pid else "worker") if b"forkserver" in line else "helper"
                found += [int(place.name)] if role == ("parent" if own else forked) else []
        return found

    def interrupt(self) -> None:
        os.killpg(self.process.pid, signal.SIGINT)

    def kill(self, *roles: str) -> int:
        """How many processes there were to kill."""
        pids = [pid for role in roles for pid in self.processes(role)]
        return sum(send(pid, signal.SIGKILL) for pid in pids)


def send(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


class Torture:
    """A sweep under faults.

    Args:
        folder: an empty one; the stores `straight` and `broken` are made in it.
        jobs: a multiple of 8.
        seed: of everything random.
        small: whether the store `broken` is on a small disk, which may be filled.
    """

    def __init__(self, folder: Path, jobs: int, seed: int, small: bool = False):
        self.straight, self.broken, self.folder = folder / "straight", folder / "broken", folder
        self.jobs, self.small, self.draw = jobs, small, random.Random(seed)
        self.counts, self.violations = Counter(dict.fromkeys([*FAULTS, "commands"], 0)), []
        self.commands: list[Command] = []
        self.finished: dict[str, float] = {}
        self.rewritten: set[str] = set()  # runs whose metrics were damaged: these are run again
        self.damaged: set[str] = set()  # runs of which anything was damaged
        self.hours = 0  # how far the clock is from the true one

    def start(self, store: Path, wanted: list[str], hours: int = 0) -> Command:
        self.commands.append(Command(store, wanted, self.folder / f"said-{len(self.commands)}.txt", hours))
        return self.commands[-1]

    def undisturbed(self, store: Path) -> None:
        """Raises AssertionError with what the command said if it fails."""
        command = self.start(store, overrides(self.jobs))
        assert command.process.wait() == 0, command.said.read_text()

    def run(self, rounds: int, faults=FAULTS) -> None:
        """The sweep without faults, with faults, and its comparison: see `counts` and `violations`."""
        self.undisturbed(self.straight)
        self.command, left = self.start(self.broken, overrides(self.jobs)), []
        for _ in range(rounds):
            self._wait()
            self._watch()
            left = left or self.draw.sample(faults, len(faults))
            fault = left.pop()
            self.counts[fault] += bool(getattr(self, fault)())
            if not self.command.works():
                self.command = self.start(self.broken, overrides(self.jobs), self.hours)
        self._ends(self.command)
        self._watch()
        self.command = self.start(self.broken, overrides(self.jobs))
        self.counts["commands"] = len(self.commands) - 1
        self._ends(self.command)
        self._check()

    def close(self) -> None:
        """End every process that is left."""
        for command in self.commands:
            command.kill("parent", "server", "worker", "helper")

    # faults; each says whether there was something to disturb

    def kill_worker(self):
        while self.command.works() and not self.command.processes("worker"):
            time.sleep(0.05)
        workers = self.command.processes("worker")
        return workers and send(self.draw.choice(workers), signal.SIGKILL)

    def kill_server(self):
        return self.command.kill("server")

    def kill_parent(self):
        return self.command.kill("parent") and self._ends(self.command)

    def kill_all(self):
        return self.command.kill("parent", "server", "worker") and self._ends(self.command)

    def interrupt(self):
        return self.command.works() and (self.command.interrupt(), self._ends(self.command))

    def interrupt_twice(self):
        if self.command.works():
            self.command.interrupt()
            time.sleep(self.draw.uniform(0, 0.3))
            return self.interrupt()
        return False

    def fill_disk(self):
        if not self.small:
            return False
        ballast, until = self.broken / "ballast", time.monotonic() + self.draw.uniform(1, 5)
        with ballast.open("wb", buffering=0) as stream:
            while time.monotonic() < until:
                try:
                    stream.write(bytes(1 << 16))
                except OSError:
                    time.sleep(0.01)
        ballast.unlink()
        return True

    def damage_checkpoint(self):
        """The newest of a run, or all."""
        found = [files for f in self._records("checkpoints") if (files := sorted(f.glob("*.pt")))]
        return found and all(self._damage(file, self.damaged) for file in self.draw.choice(found)[-self.draw.randint(1, 2) :])

    def damage_metrics(self):
        files = self._records("metrics.jsonl")
        return files and self._damage(self.draw.choice(files), self.damaged, self.rewritten)

    def damage_plan(self):
        files = sorted(self.broken.glob("plans/*.jsonl"))
        return files and self._damage(self.draw.choice(files))

    def second_sweep(self):
        """On one store: of the same jobs, or of some of these and others. One of the two goes on."""
        both = [self.command, self.start(self.broken, overrides(self.jobs, self.draw.choice([0, self.jobs // 8])))]
        time.sleep(self.draw.uniform(5, 15))
        self.command, other = self.draw.sample(both, 2)
        if other.works():
            other.interrupt() if self.draw.random() < 0.5 else other.kill("parent")
        self._ends(other)
        return True

    def move_clock(self):
        """For all commands to come, and the times of some files."""
        self.hours = self.draw.choice([-1, 1]) * self.draw.randint(1, 10000)
        files = [f for f in self.broken.rglob("*") if f.is_file()]
        for file in self.draw.sample(files, len(files) // 4):
            with contextlib.suppress(FileNotFoundError):
                os.utime(file, times=(time.time() + 3600 * self.hours,) * 2)
        return True

    def _damage(self, file: Path, *marks: set) -> bool:
        """Flip a bit, or cut the end off."""
        try:
            size = file.stat().st_size
            if self.draw.random() < 0.3:
                os.truncate(file, self.draw.randrange(size))
            else:
                with file.open("r+b", buffering=0) as stream:
                    place = stream.seek(self.draw.randrange(size))
                    byte = stream.read(1)[0] ^ 1 << self.draw.randrange(8)
                    stream.seek(place)
                    stream.write(bytes([byte]))
        except (OSError, ValueError, IndexError):  # gone, or empty, this moment
            return False
        for mark in marks:
            mark.add(file.relative_to(self.broken).parts[0])
        return True

    def _records(self, name: str) -> list[Path]:
        return sorted(self.broken.glob(f"{'[0-9a-f]' * 12}/{name}"))

    def _wait(self) -> None:
        """For a random moment, mostly while jobs run."""
        soon = self.draw.random() < 0.25
        while self.command.works() and not soon and not self.command.processes("worker"):
            time.sleep(0.1)
        time.sleep(self.draw.uniform(0, 3))

    def _ends(self, command: Command) -> bool:
        """Wait for it."""
        seen, since = None, time.monotonic()
        while command.works():
            time.sleep(0.05)
            if (now := len(list(self.broken.glob("*/done.json")))) != seen:
                seen, since = now, time.monotonic()
            if time.monotonic() - since > STUCK:
                self.violations.append(f"command {command.said.stem} is stuck")
                command.kill("parent", "server", "worker")
        return True

    def _watch(self) -> None:
        """No run is run again that is done and whole."""
        for file in self._records("done.json"):
            try:
                run, at = file.parent.name, json.loads(file.read_text())["finished"]
            except (OSError, ValueError):
                continue
            if self.finished.setdefault(run, at) != at and run not in self.rewritten:
                self.violations.append(f"run {run} was done and ran again")
            self.finished[run] = at

    def _check(self) -> None:
        self._watch()
        if self.command.process.returncode != 0:
            self.violations.append(f"the last command ended with {self.command.process.returncode}")
        for command in self.commands:
            wrong = [line for line in command.said.read_text().splitlines() if not SAID.match(line)]
            if wrong or command.process.wait() not in ENDS:
                self.violations.append(f"{command.said} ended with {command.process.returncode} and said {wrong[:1]}")
        for record in sorted(self.straight.glob("[0-9a-f]" * 12)):
            self._compare(record, self.broken / record.name)
        for aside in self.broken.glob("[0-9a-f]" * 12 + ".*"):
            if aside.name[:12] not in self.damaged:
                self.violations.append(f"{aside.name} was set aside and nobody had damaged it")
        for left in self.broken.glob("*/checkpoints/part*"):
            self.violations.append(f"{left.relative_to(self.broken)} is left, {left.stat().st_size} bytes")
        starts = [(log.parent.name[:12], step) for log in self.broken.glob("*/log.txt") for step in re.findall(r"start at step (\d+)", log.read_text())]
        begun = [run for run, step in starts if step == "0"]
        self.counts["resumed"], self.counts["restarted"] = len(starts) - len(begun), len(begun) - len(set(begun))

    def _compare(self, straight: Path, broken: Path) -> None:
        if not (broken / "done.json").exists():
            self.violations.append(f"run {broken.name} is not done")
        elif (broken / "metrics.jsonl").read_bytes() != (straight / "metrics.jsonl").read_bytes():
            self.violations.append(f"run {broken.name} has other metrics than undisturbed")
        elif summary(broken) != summary(straight):
            self.violations.append(f"run {broken.name} has another summary than undisturbed")


def summary(record: Path) -> dict:
    done = json.loads((record / "done.json").read_text())
    return {key: done[key] for key in ("summary", "steps", "metrics")}


def mounted(folder: Path, megabytes: int) -> bool:
    """Mount a small tmpfs, where that is allowed."""
    folder.mkdir(parents=True)
    if os.geteuid() or not megabytes or not shutil.which("mount"):
        return False
    return subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder], stderr=subprocess.DEVNULL).returncode == 0


def torture(folder: Path, jobs: int, seed: int, rounds: int, tmpfs: int, faults=FAULTS) -> Torture:
    """A whole torture in an empty folder; its processes and its disk are gone in the end."""
    small = mounted(folder / "broken", tmpfs)
    made = Torture(folder, jobs, seed, small)
    try:
        made.run(rounds, faults)
    finally:
        made.close()
        if small:
            if made.violations:
                shutil.copytree(folder / "broken", folder / "kept")
            subprocess.run(["umount", "--lazy", folder / "broken"], check=True)
    return made


def commit() -> str:
    found = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return found.stdout.strip()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=200, help="a multiple of 8")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, help="faults; by default three for ten jobs")
    parser.add_argument("--folder", type=Path, help="an empty folder, which is kept")
    parser.add_argument("--tmpfs", type=int, help="megabytes of the disk of the store, which may become full; 0 for none; by default 64 and 0.6 a job")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "torture.csv")
    asked = parser.parse_args()
    place = asked.folder or Path(tempfile.mkdtemp(prefix="torture-"))
    megabytes = 64 + asked.jobs * 6 // 10 if asked.tmpfs is None else asked.tmpfs
    start = time.monotonic()
    made = torture(place, asked.jobs, asked.seed, asked.rounds or asked.jobs * 3 // 10, megabytes)
    row = {
        "date": datetime.now(UTC).date().isoformat(), "commit": commit(), "seed": asked.seed, "jobs": asked.jobs, **made.counts,
        "violations": len(made.violations), "seconds": round(time.monotonic() - start),
    }  # fmt: skip
    if not made.small:
        print("the disk was never full: only root may mount a small one")
    print(*(f"{name:20}{value}" for name, value in row.items()), *made.violations, sep="\n")
    new = not asked.out.exists()
    with asked.out.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, row)
        if new:
            writer.writeheader()
        writer.writerow(row)
    if asked.folder is None and not made.violations:
        shutil.rmtree(place)
    sys.exit(1 if made.violations else 0)


if __name__ == "__main__":
    main()
