"""One thread a process, no network, Triton's interpreter where there is no GPU, and the tree's own package in subprocesses."""

import os
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["RUNNER_OFFLINE"] = "1"  # nothing is downloaded

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # must be there before anything imports triton

ROOT = Path(__file__).resolve().parents[1]
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def runner(tmp_path):
    """Call the command in an empty folder: `runner("loss=gcee") -> CompletedProcess`."""

    def call(*arguments, env=None, timeout=300):
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "COLUMNS": "160", **(env or {})}
        environment.pop("RUNNER_STORE", None)
        return subprocess.run(
            [sys.executable, "-m", "runner", *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )

    return call
