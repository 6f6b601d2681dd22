"""The user's jobs on a SLURM cluster, by squeue and scancel; sacct, which submitit asks, knows of them only where accounting is on."""

import os
import signal
import subprocess
import time
from collections.abc import Collection

ASK = 10.0  # seconds between two looks
PATIENCE = 15.0  # seconds until a shared file system shows the result of a job that has ended
OVER = ("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT", "GONE")
ENDS = {"TIMEOUT": signal.SIGXCPU, "CANCELLED": signal.SIGTERM}  # of jobs that left no result; others were killed


class Queue:
    """What becomes of jobs, by SLURM's ids."""

    def __init__(self):
        self.looked = time.monotonic()
        self.told: set[str] = set()  # those that are to stop, and do not know it yet
        self.over: dict[str, tuple[float, str]] = {}  # those that have ended -> since when, and how

    def stop(self, job: str) -> None:
        """At the next look it leaves the queue, or is asked to save itself as soon as it has begun."""
        self.told.add(job)

    def look(self, jobs: Collection[str]) -> None:
        """See what has become of jobs, not more often than needed."""
        self.told.intersection_update(jobs)
        if not self.told and time.monotonic() - self.looked < ASK:
            return
        self.looked = time.monotonic()
        lines = _squeue("--array", "--states=all", "--format=%i %T")
        if lines is None:  # the cluster does not answer now
            return
        states = dict(line.split()[:2] for line in lines)
        for job in jobs:
            state = states.get(job, "GONE")
            if state in OVER:
                self.over.setdefault(job, (self.looked, state))
            else:  # or queued again
                self.over.pop(job, None)
        waiting = {job for job in self.told if states.get(job) == "PENDING"}
        _scancel(*waiting)
        self.over.update(dict.fromkeys(waiting, (self.looked, "CANCELLED")))
        self.told -= self.over.keys()
        self.told -= _interrupt(self.told)

    def end(self, job: str) -> int | None:
        """Less the signal that ended a job without a result; None where it has not ended, or its result may still show."""
        if job not in self.over:
            return None
        since, state = self.over[job]
        return -ENDS.get(state, signal.SIGKILL) if state in ENDS or time.monotonic() - since >= PATIENCE else None


def _interrupt(jobs: Collection[str]) -> set[str]:
    """Send SIGINT to the processes of jobs, where they have begun, and return those jobs.

    Once: told the job alone scancel may send it again every few seconds, and a second SIGINT ends a run without saving.
    """
    begun = set(_squeue("--steps", "--format=%i") or ()) if jobs else ()
    found = {job for job in jobs if f"{job}.0" in begun}
    _scancel(*(f"{job}.0" for job in found), options=["--signal=INT"])
    return found


def _scancel(*jobs: str, options: Collection[str] = ()) -> None:
    if jobs:
        subprocess.run(["scancel", *options, *jobs], capture_output=True, check=False)


def _squeue(*options: str) -> list[str] | None:
    answer = subprocess.run(["squeue", f"--user={os.getuid()}", "--noheader", *options], capture_output=True, text=True, check=False)
    return None if answer.returncode else answer.stdout.splitlines()
