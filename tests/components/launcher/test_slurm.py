"""launcher=slurm: submitit's local executor, and the real one on commands that stand for a cluster's."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from launched import RECIPE, collect, metrics, straight, submit, until, work

from runner import UserError
from runner.components.launcher import _queue, slurm
from runner.execution import claim

submitit = pytest.importorskip("submitit", reason="submitit is not installed")

CLUSTER = {  # runs an array at once; a file a job holds its process id
    "sbatch": """
        [ -e down ] && exit 1
        cp "$1" script; last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$1")
        export SLURM_ARRAY_JOB_ID=7 SLURM_JOB_ID=7; echo "$last" > last
        for SLURM_ARRAY_TASK_ID in $(seq 0 "$last"); do export SLURM_ARRAY_TASK_ID; bash "$1" >/dev/null 2>&1 & done
        echo Submitted batch job 7""",
    "srun": """
        while [ "$1" != --error ]; do shift; done; shift 2
        echo $$ > "7_$SLURM_ARRAY_TASK_ID"; exec "$@" """,
    "squeue": """
        for f in $(seq -f 7_%g 0 $(cat last)); do
            case "$*" in *--steps*) [ -e $f ] && echo $f.0; continue;; esac
            [ -e $f ] || { echo "$f PENDING"; continue; }
            kill -0 $(cat $f) 2>/dev/null && echo "$f RUNNING" || echo "$f FAILED"
        done""",
    "scancel": """
        echo "$@" >> scancel; case $1 in --signal=*) kill -${1#--signal=} $(cat ${2%.0});; *) kill -KILL $(cat $1);; esac""",
}


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(p for p in sys.path if p.endswith(("src", "support"))))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def cluster(store, monkeypatch):
    folder = store / "bin"
    folder.mkdir()
    for name, script in CLUSTER.items():
        (folder / name).write_text(f"#!/bin/bash\ncd {store}\n{script}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


def started(**options):
    launcher = slurm.build(**options)
    launcher.start(work, "launched", [], [], 1)
    return launcher


@pytest.fixture(params=[signal.default_int_handler, signal.SIG_IGN], ids=["foreground", "background"])
def interrupts(request):
    before = signal.signal(signal.SIGINT, request.param)
    yield request.param
    signal.signal(signal.SIGINT, before)


def test_statuses_and_stopping(store, monkeypatch, interrupts):
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    launcher = started(cluster="local")
    submit(launcher, store, done=0, busy=3, killed="SIGKILL", waits="wait")
    assert launcher.room() == 0
    assert collect(launcher, 3) == {"done": 0, "busy": 3, "killed": -9}
    assert launcher.room() == 3  # of four
    until((store / "waits").exists)
    launcher.stop("waits")
    assert collect(launcher, 1) == {"waits": 130}
    submit(launcher, store, hangs="hang")
    assert collect(launcher, 1, patience=0.1) == {}
    launcher.stop("hangs", kill=True)
    assert collect(launcher, 1)["hangs"] < 0
    assert signal.getsignal(signal.SIGINT) == interrupts  # as it was


def test_what_cannot_be(store, monkeypatch):
    monkeypatch.setenv("PATH", str(store))
    with pytest.raises(UserError, match="no sbatch here"):
        started()
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UserError, match="pip install submitit"):
        started(cluster="local")


def test_an_array_on_a_cluster(cluster, store, monkeypatch):
    monkeypatch.setattr(_queue, "PATIENCE", 0.0)
    monkeypatch.setattr(_queue, "ASK", 0.5)
    launcher = started(partition="long", time=90, memory=1.5, gpus=2, sbatch=("constraint=a100", "exclusive"), parallel=3, notice=60)
    submit(launcher, store, done=0, killed="SIGKILL", waits="wait")
    assert collect(launcher, 2) == {"done": 0, "killed": -9}
    options = {line.removeprefix("#SBATCH --") for line in (store / "script").read_text().splitlines() if line.startswith("#SBATCH")}
    wanted = {"array=0-2%3", "partition=long", "time=90", "mem=1536MB", "cpus-per-task=1", "gpus-per-node=2", "constraint=a100", "exclusive", "signal=USR2@60"}
    assert wanted <= options
    until((store / "waits").exists)
    (store / "down").touch()
    submit(launcher, store, later=0, never=0)
    assert collect(launcher, 1, patience=0.5) == {}  # what runs is not lost
    launcher.stop("never")
    assert collect(launcher, 1) == {"never": -signal.SIGTERM}
    assert launcher.room() == 1
    launcher.stop("waits")
    assert collect(launcher, 1) == {"waits": 130}
    assert (store / "scancel").read_text().splitlines() == ["--signal=INT 7_2.0"]
    monkeypatch.setattr(slurm, "ASK", 0.0)
    monkeypatch.setattr(slurm, "OUTAGE", 0.0)
    with pytest.raises(UserError, match="launcher=slurm: sbatch failed"):
        launcher.ended(0.05)


def test_what_becomes_of_jobs_in_a_queue(monkeypatch):
    """As SLURM 22.05 was seen to answer."""
    now, sent, lines = [0.0], [], {"--array": ["7_0 RUNNING", "7_1 RUNNING", "7_2 PENDING", "7_3 PENDING"], "--steps": ["7_0.0", "7_0.batch", "7_1.batch"]}
    monkeypatch.setattr(_queue.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(_queue, "_squeue", lambda kind, *_: lines[kind])
    monkeypatch.setattr(_queue, "_scancel", lambda *jobs, options=(): sent.extend((*options, job) for job in sorted(jobs)))
    queue, jobs = _queue.Queue(), [f"7_{k}" for k in range(5)]

    def look(seconds, **changed):
        now[0] += seconds
        lines.update({f"--{key}": value for key, value in changed.items()})
        queue.look(jobs)
        return [queue.end(job) for job in jobs]

    assert look(1.0) == [None] * 5  # not asked yet
    for job in jobs[:3]:
        queue.stop(job)
    assert look(0.25) == [None, None, -signal.SIGTERM, None, None]  # 7_4 is gone, but its result may still come
    assert sent == [("7_2",), ("--signal=INT", "7_0.0")]  # 7_1 has not begun
    look(0.25, array=["7_0 RUNNING", "7_1 RUNNING", "7_2 CANCELLED", "7_3 PENDING"], steps=["7_0.0", "7_1.0"])
    assert sent[2:] == [("--signal=INT", "7_1.0")]
    assert look(_queue.ASK, array=["7_0 TIMEOUT", "7_1 PENDING", "7_2 CANCELLED", "7_3 FAILED"]) == [-signal.SIGXCPU, None, -signal.SIGTERM, None, None]
    assert look(_queue.PATIENCE, array=None) == [-signal.SIGXCPU, None, -signal.SIGTERM, -signal.SIGKILL, -signal.SIGKILL]  # the cluster does not answer
    assert look(_queue.ASK, array=["7_3 PENDING"])[3] is None  # queued again
    assert len(sent) == 3
    queue.stop("6_0")  # that has ended meanwhile
    monkeypatch.setattr(_queue, "_squeue", lambda *_: pytest.fail("nothing is asked"))
    look(0.25)


def test_a_refused_array_is_one_line(cluster, store):
    (store / "bin" / "sbatch").write_text("#!/bin/bash\necho 'sbatch: error: invalid partition specified: nope' >&2; exit 1\n")
    launcher = started(partition="nope")
    submit(launcher, store, a=0, b=0)
    with pytest.raises(UserError, match="invalid partition specified: nope"):
        launcher.ended(0.05)


def test_a_job_that_is_preempted_goes_on_where_it_stopped(store):
    """It gets the signal by which SLURM announces the end of its time, and the metrics are those of the straight run, byte for byte."""
    settings = ["trainer.duration=200ep", "trainer.log_every=100ep", "trainer.eval_every=100ep"]
    record = straight(store / "straight", *settings)
    jobs = ["seed=zip(0,1)", "optimizer.lr=zip(0.05,1e30)", "launcher=slurm", "launcher.cluster=local"]
    command = [sys.executable, "-m", "runner", "-m", *RECIPE, *settings, *jobs]
    sweep = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until((store / "runs" / record.id / "log.txt").exists)
    time.sleep(0.3)  # it trains
    os.kill(claim.latest(store / "runs" / record.id)[1]["pid"], signal.SIGUSR2)
    said, wrong = sweep.communicate(timeout=120)
    assert "2 jobs: 1 done, 1 failed" in said, wrong
    log = (store / "runs" / "logs" / f"{record.id}.txt").read_text()
    assert log.count("process") == 2
    assert "goes on at step" in log
    assert metrics(store / "runs", record.id) == metrics(store / "straight", record.id)


@pytest.mark.skipif(not shutil.which("sinfo") or subprocess.run(["sinfo"], capture_output=True, check=False).returncode != 0, reason="no SLURM cluster answers")
def test_on_a_real_cluster(store):
    """One that sees this folder: a job that fails, one that is killed and runs again, and metrics of the straight run, byte for byte."""
    settings = ["trainer.duration=100ep", "trainer.log_every=100ep", "trainer.eval_every=100ep"]
    record = straight(store / "straight", *settings)
    command = [sys.executable, "-m", "runner", "-m", *RECIPE, *settings, "seed=zip(0,1)", "optimizer.lr=zip(0.05,1e30)", "launcher=slurm", "--retries", "1"]
    sweep = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until((store / "runs" / record.id / "log.txt").exists, 120)
    job = next((store / "runs" / "slurm").glob("*_0_submitted.pkl")).name.removesuffix("_submitted.pkl")
    subprocess.run(["scancel", "--signal=KILL", f"{job}.0"], check=True)
    said, wrong = sweep.communicate(timeout=200)
    assert "2 jobs: 1 done, 1 failed" in said, wrong
    assert wrong.count("runs again") == 2
    assert "killed by SIGKILL" in wrong
    assert metrics(store / "runs", record.id) == metrics(store / "straight", record.id)
