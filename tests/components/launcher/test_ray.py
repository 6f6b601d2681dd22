"""launcher=ray, on a Ray of this machine."""

import shutil
import signal
import socket
import subprocess
import sys
import tempfile

import pytest
from launched import RECIPE, collect, metrics, straight, submit, until, work

from runner import UserError
from runner.components.launcher import ray as launcher_ray

ray = pytest.importorskip("ray", reason="Ray is not installed")


def test_statuses_and_stopping(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", ":".join(p for p in sys.path if p.endswith("support")))
    before = signal.getsignal(signal.SIGTERM)
    launcher = launcher_ray.build(cpus=0.5)
    try:
        launcher.start(work, "launched", [], [], 1)
        assert signal.getsignal(signal.SIGTERM) is before
        assert launcher.capacity(1) == 2 * ray.cluster_resources()["CPU"]
        submit(launcher, tmp_path, done=0, busy=3, killed="SIGKILL", waits="wait")
        assert collect(launcher, 3) == {"done": 0, "busy": 3, "killed": -9}
        until((tmp_path / "waits").exists)
        launcher.stop("waits")
        assert collect(launcher, 1) == {"waits": 130}
        submit(launcher, tmp_path, hangs="hang")
        until((tmp_path / "hangs").exists)
        launcher.stop("hangs", kill=True)
        assert collect(launcher, 1) == {"hangs": 130}
    finally:
        launcher.close()
    assert not ray.is_initialized()


def test_results_are_those_of_a_straight_run(runner, tmp_path):
    done = runner("-m", *RECIPE, "seed=zip(0,1,1)", "optimizer.lr=zip(0.05,0.05,1e30)", "launcher=ray")
    assert done.returncode == 1, done.stderr
    assert "3 jobs: 2 done, 1 failed" in done.stdout
    assert "loss is" in done.stderr
    for seed in (0, 1):
        record = straight(tmp_path / "straight", f"seed={seed}")
        assert metrics(tmp_path / "runs", record.id) == metrics(tmp_path / "straight", record.id)


def test_on_a_cluster_that_is_there_before_and_after(runner, tmp_path, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    folder = tempfile.mkdtemp(prefix="ray")  # a short name: sockets lie there
    options = [f"--port={port}", "--num-cpus=2", "--include-dashboard=false", "--disable-usage-stats", f"--temp-dir={folder}"]
    head = subprocess.Popen([sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", *options], stdout=subprocess.DEVNULL)
    try:
        until(lambda: reached(port), 60)
        done = runner("-m", *RECIPE, "seed=range(2)", "launcher=ray", f"launcher.address=127.0.0.1:{port}")
        assert "2 jobs: 2 done" in done.stdout, done.stderr
        assert head.poll() is None
    finally:
        head.terminate()
        head.wait(30)
        shutil.rmtree(folder)
    record = straight(tmp_path / "straight", "seed=1")
    assert metrics(tmp_path / "runs", record.id) == metrics(tmp_path / "straight", record.id)


def reached(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_what_cannot_be(monkeypatch):
    with pytest.raises(UserError, match="address=localhost:1: "):
        launcher_ray.build(address="localhost:1").capacity(1)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match="pip install ray"):
        launcher_ray.build().capacity(1)
