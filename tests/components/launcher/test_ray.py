"""launcher=ray, on a Ray of this machine."""

import signal
import sys

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
        launcher.start(work, "signal", [], [], 1)
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


def test_what_cannot_be(monkeypatch):
    with pytest.raises(UserError, match="address=localhost:1: "):
        launcher_ray.build(address="localhost:1").capacity(1)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match="pip install ray"):
        launcher_ray.build().capacity(1)
