"""launcher=local: slots, devices, statuses, stopping, and a process that dies."""

import json
import os
import signal
import subprocess
import sys
from multiprocessing import forkserver

import pytest
from launched import RECIPE, collect, metrics, straight, submit, until, work

from runner.components.launcher import _forks, local
from runner.execution import plan
from runner.execution.claim import born
from runner.execution.pool import needs

DIE = """
import signal
from runner import card
CARD = card()

class Die:
    def __init__(self, by):
        self.by = by

    def epoch_start(self, state):
        signal.raise_signal(self.by)

def build(by: int = 9):
    '''Be killed.

    Args:
        by: number of the signal.
    '''
    return Die(by)
"""


@pytest.fixture
def launcher(monkeypatch):
    """Started on a machine with two GPUs, two jobs on each."""
    monkeypatch.setattr(local, "gpus", lambda: ["4", "6"])
    launcher = local.build(slots=2)
    launcher.start(work, "launched", [], [], 1)
    yield launcher
    launcher.close()


def test_slots(monkeypatch):
    monkeypatch.setattr(local, "cores", lambda: 8)
    monkeypatch.setattr(local, "gpus", lambda: [])
    assert [local.build().capacity(threads) for threads in (0, 1, 3, 16)] == [8, 8, 2, 1]
    assert local.build(slots=3).capacity(1) == 3
    monkeypatch.setattr(local, "gpus", lambda: ["0", "1"])
    assert (local.build().capacity(1), local.build(slots=3).capacity(1)) == (2, 6)


def test_gpus_are_those_that_the_user_left_visible(monkeypatch):
    for value, names in (("2,5", ["2", "5"]), ("", []), ("-1", []), ("GPU-a, GPU-b", ["GPU-a", "GPU-b"])):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
        assert local.gpus() == names


def test_jobs_share_the_gpus_and_a_freed_place_is_taken_again(launcher, tmp_path):
    assert launcher.room() == 4
    submit(launcher, tmp_path, a="wait", b="wait", c="wait", d="wait")
    assert launcher.room() == 0
    seen = lambda: [f.read_text() for f in sorted(tmp_path.iterdir())]
    until(lambda: "".join(seen()).strip() and seen() == ["4", "6", "4", "6"])
    launcher.stop("b")
    assert collect(launcher, 1) == {"b": 130}
    assert launcher.room() == 1
    submit(launcher, tmp_path, e=0)
    assert collect(launcher, 1) == {"e": 0}
    assert (tmp_path / "e").read_text() == "6"


def test_statuses(launcher, tmp_path):
    submit(launcher, tmp_path, done=0, failed=1, busy=3, killed="SIGKILL")
    assert collect(launcher, 4) == {"done": 0, "failed": 1, "busy": 3, "killed": -9}
    submit(launcher, tmp_path, crashed="SIGSEGV", hangs="hang")
    assert collect(launcher, 1) == {"crashed": -11}
    until((tmp_path / "hangs").exists)
    launcher.stop("hangs")
    assert launcher.ended(0.2) == []
    launcher.stop("hangs", kill=True)
    assert collect(launcher, 1) == {"hangs": -9}


def test_close_leaves_no_process(launcher, tmp_path):
    submit(launcher, tmp_path, a="hang")
    until((tmp_path / "a").exists)
    pid = launcher.processes["a"].pid
    launcher.close()
    assert born(pid) is None


def test_a_job_that_dies_costs_itself_alone(runner, tmp_path):
    (tmp_path / "lab" / "with").mkdir(parents=True)
    (tmp_path / "lab" / "with" / "die.py").write_text(DIE)
    done = runner("-m", "--config-dir", "lab", *RECIPE, "with=zip([],[die],[die])", "with.die.by=zip(9,9,11)", "launcher.slots=1")
    assert done.returncode == 1
    assert "killed by SIGKILL (out of memory?)" in done.stderr
    assert "killed by SIGSEGV" in done.stderr
    assert "3 jobs: 1 done, 2 failed" in done.stdout
    record = straight(tmp_path / "straight", "with=[]")
    assert metrics(tmp_path / "runs", record.id) == metrics(tmp_path / "straight", record.id)


def test_a_server_that_runs_is_kept(launcher, tmp_path):
    """Whoever tells it what jobs need before they start, and again at their start, has one server."""
    server = lambda: forkserver._forkserver._forkserver_pid
    before = server()
    launcher.prepare("launched")
    launcher.expect([], [])
    assert server() == before is not None
    submit(launcher, tmp_path, a=0)
    assert collect(launcher, 1) == {"a": 0}
    assert server() == before


def sweep(tmp_path, body: str, module: str, before: str = "pass", **about):
    """Run a process with a server that has been told of a module in `tmp_path`, of this text."""
    (tmp_path / "asked.py").write_text(module)
    code = (
        "import os, time; from pathlib import Path; from multiprocessing import forkserver; from launched import until, work\n"
        "from runner.components.launcher import local\n"
        f"here, server = Path({str(tmp_path)!r}), lambda: forkserver._forkserver._forkserver_pid\n"
        "if __name__ == '__main__':\n"
        f"    {before}; launcher = local.build(1); launcher.prepare('asked'); {body}\n"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    env.pop("GLIBC_TUNABLES", None)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, env=env, **about)


@pytest.mark.parametrize(
    ("module", "body"),
    [
        ("import time; open('began', 'w'); time.sleep(60)", "until((here / 'began').exists); print(server())"),
        ("open('began', 'w')", "until((here / 'began').exists); print(server())"),
        ("open('began', 'w')", "until((here / 'began').exists); print(server(), flush=True); os.kill(os.getpid(), 9)"),
    ],
    ids=["while it imports", "while it waits", "where the sweep is killed"],
)
def test_the_server_ends_with_the_sweep(module, body, tmp_path):
    """As where planning finds a mistake before it is known what jobs need."""
    done = sweep(tmp_path, body, module, cwd=tmp_path)
    until(lambda: born(int(done.stdout)) is None)
    assert done.stderr == ""


@pytest.mark.parametrize("stdin", ["os.close(0)", "pass"], ids=["closed", "open"])
def test_jobs_begin_after_what_they_need(stdin, tmp_path):
    """The server is told by its standard input; whoever begins it keeps its own, or none. It has an environment of its own."""
    module = "import os\ndef warm(components, folders): print(components, folders, os.environ['GLIBC_TUNABLES'], flush=True)"
    body = (
        "launcher.expect([['data', 'digits']], ['mine']); launcher.start(work, 'asked', [], [], 1); launcher.submit('a', ('a', 0, str(here)))\n"
        "    print(launcher.ended(20), os.path.exists('/proc/self/fd/0') and os.readlink('/proc/self/fd/0'))"
    )
    done = sweep(tmp_path, body, module, before=stdin, stdin=subprocess.DEVNULL)
    assert done.stdout.splitlines() == ["[['data', 'digits']] ['mine'] glibc.malloc.hugetlb=1", f"[('a', 0)] {'/dev/null' if stdin == 'pass' else False}"]
    assert done.stderr == ""


def test_a_server_that_dies_before_it_was_told_is_replaced(tmp_path):
    module = "def warm(components, folders): print(components, flush=True)"
    body = (
        "os.kill(server(), 9); launcher.start(work, 'asked', [['data', 'digits']], [], 1); launcher.submit('a', ('a', 0, str(here)))\n"
        "    print(launcher.ended(20))"
    )
    done = sweep(tmp_path, body, module)
    assert done.stdout.splitlines() == ["[['data', 'digits']]", "[('a', 0)]"]


def test_a_server_that_is_dead_when_a_job_is_to_be_forked_is_replaced(tmp_path):
    """The other one is told all, too, and does not read the sweep's own standard input."""
    module = "def warm(components, folders): print(components, flush=True)"
    before = (
        "from multiprocessing.process import BaseProcess; begin = BaseProcess.start\n"
        "    def start(process):\n"
        "        os.kill(server(), 9); os.waitid(os.P_PID, server(), os.WEXITED | os.WNOWAIT); begin(process)\n"
        "    BaseProcess.start = start"
    )
    body = (
        "launcher.expect([['data', 'digits']], []); launcher.start(work, 'asked', [], [], 1)\n"
        "    launcher.submit('a', ('a', 0, str(here))); print(launcher.ended(20), launcher.ended(0))"
    )
    done = sweep(tmp_path, body, module, before=before, stdin=subprocess.DEVNULL)
    assert done.stdout.splitlines()[-1] == "[('a', 0)] []"
    assert "[['data', 'digits']]" in done.stdout.splitlines()
    assert done.stderr == ""


def test_what_became_of_a_job_is_not_known_where_its_server_died(launcher, tmp_path):
    submit(launcher, tmp_path, a="wait")
    until((tmp_path / "a").exists)
    job = launcher.processes["a"].pid
    os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)
    assert collect(launcher, 1) == {"a": None}
    assert born(job) is not None
    os.kill(job, signal.SIGKILL)
    submit(launcher, tmp_path, b=0, c=1, d=255)
    assert collect(launcher, 3) == {"b": 0, "c": 1, "d": 255}


def test_the_users_environment_counts_and_stays(launcher, monkeypatch):
    """For the C library and for threads; a config may read it."""
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=1")
    monkeypatch.delenv("OMP_NUM_THREADS")
    with _forks._environment():
        assert (os.environ["GLIBC_TUNABLES"], os.environ["OMP_NUM_THREADS"]) == ("glibc.malloc.check=1", "1")
    assert "OMP_NUM_THREADS" not in os.environ


def test_what_the_server_has_imported_is_never_looked_through_for_garbage():
    code = "import runner.components.launcher._server, gc, sys; print(gc.isenabled(), gc.get_freeze_count() > 100_000, 'torch' in sys.modules, flush=True)"
    said = 'runner.execution.warm\n{"components": [["data", "digits"]], "folders": []}\n'
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(sys.path)}, input=said)
    assert done.stdout.split() == ["True", "True", "True"]


def test_a_job_imports_nothing_that_the_server_has_not(tmp_path):
    (job,) = plan.make([*RECIPE, f"store={tmp_path}"]).jobs
    code = (
        "import json, sys; job, plain, store, components = json.load(sys.stdin); from runner.execution import warm; warm.warm(components, [])\n"
        "before = set(sys.modules); from runner.cli.main import main; from runner.execution.worker import work\n"
        "status = work(job, plain, store, [], None); print(status, sorted(set(sys.modules) - before))"
    )
    said = json.dumps([job.id, job.plain, str(tmp_path), needs([job.config])[0]])
    env = {"PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env, input=said)
    assert done.stdout == "0 []\n"
