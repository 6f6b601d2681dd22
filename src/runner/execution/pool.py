"""Run the jobs of a plan on a launcher: each in a process of its own, what is done not again, one that dies costs itself alone.

A launcher has

    capacity(threads) -> int   how many jobs of so many threads it runs at once
    frozen                     whether edits of files after `start` change nothing for the jobs
    queues                     whether a job may wait for its turn after `submit`
    prepare(warm)              a sweep is coming: the module `warm` may be imported from now on
    expect(components, folders)    of jobs with such: `warm.warm(components, folders)` may be called from now on
    start(work, warm, components, folders, threads)     `work(*arguments) -> status` runs a job; nothing need have been prepared
    room() -> int              how many jobs it takes now
    submit(job, arguments)     begin one
    ended(seconds) -> [(job, status)]     what has ended, waiting so long for it; status: of `work`, negative for the signal that killed it,
                               None where nobody can know it: the record does
    stop(job, kill)            ask one to save itself and stop, or end it at once
    close()                    end all
"""

import contextlib
import signal
import time
from collections import deque
from collections.abc import Callable

from runner.config import registry
from runner.config.bind import Config
from runner.execution import WARM, claim, worker
from runner.execution.plan import Job, Plan

ONLY = {"failed": ("failed",), "missing": ("missing", "stopped"), "stale": ("stale", "damaged")}
TICK = 0.25  # seconds between two looks
GRACE = 10.0  # seconds from the asking to the killing of a job that is out of time


class Pool:
    """One sweep.

    Args:
        plan: what to run.
        launcher: where.
        display: told what happens; see `runner.report.jobs`.
        retries: how often a job that failed is run again.
        fail_fast: stop everything at the first failure.
        only: the states to run, keys of ONLY; if empty, all that is not done and, with fresh=true, what is.
        timeout: seconds that a job may take once it has begun; it is stopped then, and failed.
        more: called when there is room and nothing waits; gives a further job, or None when there is none now.
    """

    def __init__(
        self, plan: Plan, launcher, display, retries: int = 0, fail_fast: bool = False, only: tuple = (), timeout: float | None = None,
        more: Callable[[], Job | None] = lambda: None,
    ):  # fmt: skip
        self.plan, self.launcher, self.display = plan, launcher, display
        self.retries, self.fail_fast, self.only, self.timeout, self.more = retries, fail_fast, only, timeout, more
        self.jobs = {job.id: job for job in plan.jobs}
        self.states: dict[str, str] = {}
        self.waiting: deque[Job] = deque()
        self.running: dict[str, float] = {}  # run id -> since when
        self.queued: dict[str, int] = {}  # those of them that may not have begun -> the last claim on them before
        self.elsewhere: list[Job] = []  # other sweeps run these
        self.seen: dict[str, tuple] = {}  # run id -> (claim, since when it has been the same)
        self.looked = 0.0
        self.tries = dict.fromkeys(self.jobs, 0)
        self.late: dict[str, float] = {}  # jobs that are out of time -> since when
        self.asked = 0  # how often the user asked to stop
        self.told: set[str] = set()  # jobs that were asked to
        self.killed: set[str] = set()
        self.dropped: set[str] = set()
        self.started = False

    def run(self) -> dict[str, str]:
        """The states of all jobs in the end: done, failed, stopped, or what they were where they were not to be run."""
        self.states = self.plan.states()
        wanted = [state for name in self.only for state in ONLY[name]]
        chosen = [job for job in self.jobs.values() if (self.states[job.id] in wanted if wanted else job.left(self.states[job.id]))]
        self.elsewhere = [job for job in chosen if self.states[job.id] == "running"]
        self.waiting.extend(job for job in chosen if self.states[job.id] != "running")
        self._fetch()
        if not self.waiting and not self.elsewhere:
            return self.states
        with self.display.showing(self.plan, chosen), _asking(self), contextlib.closing(self.launcher):
            while self._left():
                self._submit()
                for run, status in self._ended():
                    self._settle(self.jobs[run], status)
                self._look_at_queue()
                self._hurry()
                self._look_elsewhere()
                self.display.progress({self.jobs[run]: (self._progress(run), since) for run, since in self.running.items()})
        for job in (*self.waiting, *self.elsewhere):
            state = self.plan.store.state(job.id, job.code)
            self.states[job.id] = "missing" if state == "done" and job in self.waiting else state  # with fresh=true: what is there is of before
        return self.states

    def drop(self, run: str) -> None:
        """Let a running job save itself and stop: nobody wants to see its end."""
        self.dropped.add(run)
        self.launcher.stop(run)

    def _fetch(self) -> None:
        """Ask for a further job where nothing waits."""
        if not self.waiting and not self.stopping and (job := self.more()) is not None:
            self.jobs[job.id] = job
            self.tries.setdefault(job.id, 0)
            self.waiting.append(job)

    def _progress(self, run: str) -> float:
        """Share of its steps that a running job has made, as its claim says."""
        content = claim.latest(self.plan.store.folder / run)[1] or {}
        return content.get("step", 0) / max(1, content.get("total", 1))

    @property
    def stopping(self) -> bool:
        return self.asked > 0

    def stop(self) -> None:
        """Ask all jobs to save themselves and stop; asked again, end them."""
        self.asked += 1

    def _start(self) -> None:
        self.started = True
        threads = max(job.plain["threads"] for job in self.waiting)
        self.launcher.start(worker.work, WARM, *needs([job.config for job in self.waiting]), threads)

    def _left(self) -> bool:
        if not self.running:
            self._fetch()
        return bool(self.running or ((self.waiting or self.elsewhere) and not self.stopping))

    def _submit(self) -> None:
        while not self.stopping and (not self.started or self.launcher.room() > 0):
            self._fetch()
            if not self.waiting:
                return
            if not self.started:
                self._start()
            job = self.waiting.popleft()
            self.running[job.id] = time.monotonic()
            if self.launcher.queues:
                self.queued[job.id] = claim.latest(self.plan.store.folder / job.id)[0]
            store = str(self.plan.store.folder.resolve())
            self.launcher.submit(job.id, (job.id, job.plain, store, own_folders(), job.code if self.launcher.frozen else None))
            self.display.started(job)

    def _ended(self) -> list[tuple[str, int | None]]:
        if not self.running:
            time.sleep(TICK)
            return []
        return self.launcher.ended(TICK)

    def _settle(self, job: Job, status: int | None) -> None:
        """A job's process has ended: what became of the job?"""
        seconds, late = time.monotonic() - self.running.pop(job.id), self.late.pop(job.id, None)
        self.queued.pop(job.id, None)
        if status in (worker.BUSY, None):
            self.elsewhere.append(job)
            return
        if status == worker.DONE:
            self._end(job, "done", seconds)
            return
        if (self.stopping or job.id in self.dropped) and status != worker.FAILED:
            self._end(job, "stopped", seconds)
            return
        if late is not None or status != worker.FAILED:  # it could not say so itself
            why = _death(status) if late is None else f"out of time after {self.timeout:g} s"
            with contextlib.suppress(OSError):
                self.plan.store.fail(job.id, {"error": why})
        if self.tries[job.id] < self.retries and not self.stopping:
            self.tries[job.id] += 1
            self.waiting.append(job)
            self._end(job, "again", seconds)
            return
        self._end(job, "failed", seconds)
        if self.fail_fast and not self.stopping:
            self.stop()

    def _end(self, job: Job, state: str, seconds: float) -> None:
        self.states[job.id] = "failed" if state == "again" else state
        log = worker.log_file(self.plan.store.folder, job.id)
        why = (self.plan.store.failed(job.id) or {}).get("error", "it could not say why (is the disk full?)") if state in ("failed", "again") else ""
        self.display.ended(job, state, seconds, why, log)

    def _hurry(self) -> None:
        """Pass on the wish to stop, and the time limit."""
        now = time.monotonic()
        for run, since in self.running.items():
            if self.asked >= 2 and run not in self.killed:
                self.killed.add(run)
                self.launcher.stop(run, kill=True)
            elif self.stopping and run not in self.told:
                self.told.add(run)
                self.launcher.stop(run)
            elif self.timeout and run not in self.queued and now - since > self.timeout:
                if run not in self.late:
                    self.late[run] = now
                    self.launcher.stop(run)
                elif now - self.late[run] > GRACE:
                    self.launcher.stop(run, kill=True)

    def _look_at_queue(self) -> None:
        """A job that waited for its turn begins with a claim of its own; its time counts from there."""
        for run, before in list(self.queued.items()):
            if claim.latest(self.plan.store.folder / run)[0] > before:
                del self.queued[run]
                self.running[run] = time.monotonic()

    def _look_elsewhere(self) -> None:
        """Jobs that another sweep runs: ended there, or ours when that sweep is gone."""
        if not self.elsewhere or time.monotonic() - self.looked < 1.0:
            return
        self.looked = time.monotonic()
        for job in list(self.elsewhere):
            state = self.plan.store.state(job.id, job.code)
            if state == "running" and not self._silent(job.id, claim.latest(self.plan.store.folder / job.id)):
                continue
            self.elsewhere.remove(job)
            if state in ("done", "failed"):
                self._end(job, state, 0.0)
            else:
                self.waiting.append(job)

    def _silent(self, run: str, found: tuple) -> bool:
        """Whether a process of another machine has not renewed its claim for long."""
        if claim.alive(found[1]):
            return False
        last, since = self.seen.get(run, (None, 0.0))
        if last != found:
            self.seen[run] = (found, time.monotonic())
            return False
        return time.monotonic() - since > claim.PATIENCE


def needs(configs: list[Config]) -> tuple[list, list[str]]:
    """What jobs of such configs have: `components` and `folders` of a launcher's `expect`."""
    return sorted({(c.group, c.option) for config in configs for c in config.choices}), own_folders()


def own_folders() -> list[str]:
    """The user's own, with components."""
    return [str(f) for f in registry.folders()[1:]]


def _death(status: int) -> str:
    if status < 0:
        known = {s.value: s.name for s in signal.Signals}
        return f"killed by {known.get(-status, f'signal {-status}')}" + (" (out of memory?)" if status == -signal.SIGKILL else "")
    return f"the process ended with status {status}"


@contextlib.contextmanager
def _asking(pool: Pool):
    """Ctrl-C and SIGTERM ask the pool to stop; twice, they end the jobs."""
    try:
        before = {number: signal.signal(number, lambda *_: pool.stop()) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
