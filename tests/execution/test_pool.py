"""A sweep on a launcher whose jobs end as a script says."""

import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from runner.execution import claim, plan, pool, worker
from runner.execution.plan import Plan
from runner.execution.pool import Pool
from runner.execution.store import Store
from runner.execution.worker import BUSY, DONE, FAILED, STOPPED

WAITS = "waits until it is asked to stop"
STUCK = "does not hear that it is asked to stop"


class Scripted:
    """A launcher in this process.

    Args:
        ends: run id -> how its tries end, in turn: a status, a function that gives one, WAITS or STUCK; DONE where nothing is said.
        slots: jobs at once.
    """

    frozen, queues = True, False

    def __init__(self, ends: dict, slots: int = 1):
        self.ends = {run: list(each) for run, each in ends.items()}
        self.slots, self.running, self.begun, self.stopped, self.most, self.closed = slots, {}, [], [], 0, False

    def start(self, work, warm, components, folders, threads):
        self.started = (work, warm, components)

    def room(self):
        return self.slots - len(self.running)

    def submit(self, job, arguments):
        assert arguments[0] == job
        self.begun.append(job)
        self.running[job] = (self.ends.get(job) or [DONE]).pop(0)
        self.most = max(self.most, len(self.running))

    def ended(self, seconds):
        found = {job: end() if callable(end) else end for job, end in self.running.items() if end not in (WAITS, STUCK)}
        if not found:
            time.sleep(0.01)
        for job in found:
            del self.running[job]
        return list(found.items())

    def stop(self, job, kill=False):
        self.stopped.append((job, kill))
        if kill:
            self.running[job] = -signal.SIGKILL
        elif self.running[job] == WAITS:
            self.running[job] = STOPPED

    def close(self):
        self.closed = True


class Seen:
    """A display that remembers."""

    def __init__(self):
        self.begun, self.ends, self.shares = [], [], []
        self.when = {}  # what to do when a job starts

    @contextlib.contextmanager
    def showing(self, plan, chosen):
        self.chosen = [job.id for job in chosen]
        yield

    def started(self, job):
        self.begun.append(job.id)
        self.when.get(job.id, lambda: None)()

    def ended(self, job, state, seconds, why, log):
        self.ends.append((job.id, state, why))

    def progress(self, running):
        self.shares.append({job.id: share for job, (share, _) in running.items()})


@pytest.fixture(scope="module")
def composed():
    return plan.make(["data=blobs", "seed=range(4)"])


@pytest.fixture
def planned(composed, tmp_path):
    return replace(composed, store=Store(tmp_path))


@pytest.fixture
def ids(planned):
    return [job.id for job in planned.jobs]


@pytest.fixture
def seen():
    return Seen()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(pool, "TICK", 0.01)
    monkeypatch.setattr(pool, "GRACE", 0.1)


def record(made: Plan, run: str, state: str) -> None:
    """The files of a run in a state."""
    folder = made.store.folder / run
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text("{}\n")
    if state == "failed":
        (folder / "failed.json").write_text('{"error": "its own words"}')
    elif state == "stopped":
        (folder / "checkpoints" / "000000001-0.pt").write_text("")
    else:
        code = "other" if state == "stale" else next(job.code for job in made.jobs if job.id == run)
        (folder / "environment.json").write_text(json.dumps({"code": code}))
        (folder / "done.json").write_text(json.dumps({"metrics": hashlib.sha256(b"{}\n").hexdigest()[:16]}))
        if state == "damaged":
            (folder / "metrics.jsonl").write_text("{}")


def hold(made: Plan, run: str, pid: int) -> None:
    folder = made.store.folder / run
    folder.mkdir(exist_ok=True)
    (folder / "claim-1.json").write_text(json.dumps({"host": socket.gethostname(), "boot": claim._boot(), "pid": pid, "born": claim.born(pid), "beat": 1}))


@pytest.fixture
def other():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def test_all_jobs_run_in_order_in_the_slots_that_there_are(planned, ids, seen):
    launcher = Scripted({}, slots=3)
    assert Pool(planned, launcher, seen).run() == dict.fromkeys(ids, "done")
    assert launcher.begun == seen.begun == seen.chosen == ids
    assert launcher.most == 3
    assert launcher.closed
    assert launcher.started[0] is worker.work
    assert ("data", "blobs") in launcher.started[2]


def test_what_is_done_is_not_run_again(planned, ids, seen):
    for run, state in zip(ids, ("done", "stale", "damaged", "stopped")):
        record(planned, run, state)
    launcher = Scripted({})
    assert Pool(planned, launcher, seen).run() == dict.fromkeys(ids, "done")
    assert launcher.begun == ids[1:]
    for run in ids:
        record(planned, run, "done")
    (idle := Scripted({})).start = None  # nothing is even started
    assert Pool(planned, idle, seen).run() == dict.fromkeys(ids, "done")


def test_fresh_runs_again_what_is_done_once(planned, ids, seen):
    """A retry goes on with what the first try began; what was not begun when the sweep is stopped is missing, whatever was there before."""
    planned = replace(planned, jobs=tuple(replace(job, plain={**job.plain, "fresh": True}) for job in planned.jobs))
    for run, state in zip(ids, ("done", "done", "stopped", "done")):
        record(planned, run, state)
    launcher = Scripted({ids[1]: [FAILED, DONE]})
    assert Pool(planned, launcher, seen, retries=1).run() == dict.fromkeys(ids, "done")
    assert sorted(launcher.begun) == sorted([*ids, ids[1]])
    states = Pool(planned, Scripted({ids[1]: [FAILED]}), seen, fail_fast=True).run()
    assert [states[run] for run in ids] == ["done", "failed", "stopped", "missing"]
    launcher = Scripted({})
    states = Pool(planned, launcher, seen, only=("missing",)).run()
    assert launcher.begun == [ids[2]]


@pytest.mark.parametrize(("only", "run"), [(("failed",), [0]), (("missing",), [1, 3]), (("stale",), [2]), (("failed", "stale"), [0, 2])])
def test_only(planned, ids, seen, only, run):
    for k, state in {0: "failed", 1: "stopped", 2: "stale"}.items():
        record(planned, ids[k], state)
    launcher = Scripted({})
    states = Pool(planned, launcher, seen, only=only).run()
    assert launcher.begun == [ids[k] for k in run]
    before = ("failed", "stopped", "stale", "missing")
    assert states == {run_: "done" if k in run else before[k] for k, run_ in enumerate(ids)}


def test_retries(planned, ids, seen):
    launcher = Scripted({ids[0]: [FAILED, -11, DONE], ids[1]: [FAILED] * 3})
    states = Pool(planned, launcher, seen, retries=2).run()
    assert [states[run] for run in ids] == ["done", "failed", "done", "done"]
    assert [launcher.begun.count(run) for run in ids] == [3, 3, 1, 1]
    assert [state for run, state, _ in seen.ends if run == ids[1]] == ["again", "again", "failed"]


def test_fail_fast(planned, ids, seen):
    launcher = Scripted({ids[0]: [WAITS], ids[1]: [FAILED]}, slots=2)
    states = Pool(planned, launcher, seen, fail_fast=True).run()
    assert [states[run] for run in ids] == ["stopped", "failed", "missing", "missing"]
    assert launcher.stopped == [(ids[0], False)]


def test_without_fail_fast_a_failure_costs_itself_alone(planned, ids, seen):
    states = Pool(planned, Scripted({ids[0]: [FAILED]}), seen).run()
    assert [states[run] for run in ids] == ["failed", "done", "done", "done"]


@pytest.mark.parametrize(
    ("status", "why"),
    [(-9, "killed by SIGKILL (out of memory?)"), (-11, "killed by SIGSEGV"), (-15, "killed by SIGTERM"), (-40, "killed by signal 40"), (7, "status 7")],
)
def test_a_death_is_named(planned, ids, seen, status, why):
    Pool(planned, Scripted({ids[2]: [status]}), seen).run()
    assert why in planned.store.failed(ids[2])["error"]
    assert (ids[2], "failed") in [end[:2] for end in seen.ends]
    assert why in next(why for run, state, why in seen.ends if state == "failed")


def test_a_job_that_failed_by_itself_is_quoted(planned, ids, seen):
    launcher = Scripted({ids[0]: [lambda: record(planned, ids[0], "failed") or FAILED]})
    Pool(planned, launcher, seen).run()
    assert seen.ends[0] == (ids[0], "failed", "its own words")


def test_out_of_time(planned, ids, seen):
    """Asked to save itself first, ended when it does not; failed in both cases, and the others go on."""
    launcher = Scripted({ids[0]: [WAITS], ids[1]: [STUCK]})
    states = Pool(planned, launcher, seen, timeout=0.1).run()
    assert [states[run] for run in ids] == ["failed", "failed", "done", "done"]
    assert launcher.stopped[:2] == [(ids[0], False), (ids[1], False)]
    assert launcher.stopped[-1] == (ids[1], True)
    assert [planned.store.failed(run)["error"] for run in ids[:2]] == ["out of time after 0.1 s"] * 2


def test_the_time_in_a_queue_does_not_count(planned, ids, seen):
    """The first begins after longer than the limit, and ends within it from there; the second begins at once and takes too long."""
    launcher = Scripted({ids[0]: [WAITS], ids[1]: [WAITS]}, slots=2)
    launcher.queues = True
    threading.Timer(0.6, hold, (planned, ids[0], os.getpid())).start()
    threading.Timer(0.8, launcher.running.update, ({ids[0]: DONE},)).start()
    seen.when[ids[1]] = lambda: hold(planned, ids[1], os.getpid())
    states = Pool(planned, launcher, seen, timeout=0.4).run()
    assert [states[run] for run in ids] == ["done", "failed", "done", "done"]


def test_stop_once_saves_what_runs_and_starts_no_more(planned, ids, seen):
    launcher = Scripted({ids[1]: [WAITS]})
    made = Pool(planned, launcher, seen)
    seen.when[ids[1]] = made.stop
    states = made.run()
    assert [states[run] for run in ids] == ["done", "stopped", "missing", "missing"]
    assert launcher.stopped == [(ids[1], False)]


def test_stop_twice_ends_what_runs(planned, ids, seen):
    launcher = Scripted({ids[0]: [STUCK]})
    made = Pool(planned, launcher, seen)
    seen.when[ids[0]] = lambda: (made.stop(), made.stop())
    assert made.run()[ids[0]] == "stopped"
    assert launcher.stopped[0] == (ids[0], True)


def test_ctrl_c_asks_to_stop(planned, ids, seen):
    before = signal.getsignal(signal.SIGINT)
    launcher = Scripted({ids[0]: [WAITS]})
    seen.when[ids[0]] = lambda: os.kill(os.getpid(), signal.SIGINT)
    assert Pool(planned, launcher, seen).run()[ids[0]] == "stopped"
    assert signal.getsignal(signal.SIGINT) is before


def test_a_job_that_failed_while_the_sweep_stops_has_failed(planned, ids, seen):
    made = Pool(planned, Scripted({ids[0]: [FAILED]}), seen, retries=5)
    seen.when[ids[0]] = made.stop
    assert made.run()[ids[0]] == "failed"


def test_drop_stops_one_job_and_the_others_go_on(planned, ids, seen):
    launcher = Scripted({ids[1]: [WAITS]}, slots=2)
    made = Pool(planned, launcher, seen)
    seen.when[ids[2]] = lambda: made.drop(ids[1])
    states = made.run()
    assert [states[run] for run in ids] == ["done", "stopped", "done", "done"]


def test_more_gives_jobs_while_there_is_room(planned, ids, seen):
    """As a search does: the next job may hang on how the ones before ended."""
    first, *rest = planned.jobs
    left = list(rest)

    def more():
        return left.pop(0) if left and all(state == "done" for _, state, _ in seen.ends) else None

    states = Pool(replace(planned, jobs=(first,)), Scripted({ids[2]: [FAILED]}), seen, more=more).run()
    assert [states.get(run) for run in ids] == ["done", "done", "failed", None]
    assert left == [planned.jobs[3]]


def test_a_job_that_another_sweep_runs_is_waited_for(planned, ids, seen, other):
    hold(planned, ids[0], other.pid)

    def end():
        record(planned, ids[0], "done")
        return DONE

    launcher = Scripted({ids[-1]: [end]})
    assert Pool(planned, launcher, seen).run() == dict.fromkeys(ids, "done")
    assert launcher.begun == ids[1:]


def test_a_job_of_a_sweep_that_died_is_taken_over(planned, ids, seen, other):
    hold(planned, ids[0], other.pid)
    seen.when[ids[-1]] = other.kill
    launcher = Scripted({})
    assert Pool(planned, launcher, seen).run() == dict.fromkeys(ids, "done")
    assert launcher.begun == [*ids[1:], ids[0]]


def test_busy_then_done_elsewhere(planned, ids, seen):
    """Another sweep was quicker with one job, and gave up another."""
    launcher = Scripted({ids[0]: [lambda: record(planned, ids[0], "done") or BUSY], ids[1]: [BUSY, DONE]})
    assert Pool(planned, launcher, seen).run() == dict.fromkeys(ids, "done")
    assert launcher.begun == [*ids, ids[1]]


def test_a_job_that_outlives_the_process_that_forked_it_has_not_failed(planned, ids, seen, other):
    def orphan():
        hold(planned, ids[0], other.pid)
        return None

    launcher = Scripted({ids[0]: [orphan]})
    seen.when[ids[-1]] = lambda: record(planned, ids[0], "done")
    assert Pool(planned, launcher, seen).run() == dict.fromkeys(ids, "done")
    assert launcher.begun == ids
    assert planned.store.failed(ids[0]) is None


def test_progress_is_read_from_the_claims(planned, ids, seen):
    folder = planned.store.folder / ids[0]
    folder.mkdir()
    (folder / "claim-3.json").write_text('{"free": true, "step": 3, "total": 4}')
    made = Pool(planned, Scripted({ids[0]: [WAITS]}), seen)
    seen.when[ids[0]] = made.stop
    made.run()
    assert {ids[0]: 0.75} in seen.shares or made._progress(ids[0]) == 0.75
