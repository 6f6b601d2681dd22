"""One run on two processes takes the steps of one process that cuts its batches in two, bit for bit."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
RUN = ["-m", "runner", "+recipe=noisy_labels", "scale=smoke", "with=[elr,mixup,ema,sam]", "optimizer.momentum=0.9", "device=cpu"]


def start(folder, command):
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT / 'tests' / 'support'}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def rows(folder):
    (file,) = folder.glob("*/metrics.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_two_processes_are_one_with_two_pieces(tmp_path):
    done = start(tmp_path, [*TORCHRUN, *RUN, f"store={tmp_path / 'two'}"])
    assert done.stdout.count("test/acc") == 1  # one process speaks
    start(tmp_path, [sys.executable, *RUN, "trainer.accumulate=2", f"store={tmp_path / 'pieces'}"])
    start(tmp_path, [sys.executable, *RUN, f"store={tmp_path / 'one'}"])
    assert rows(tmp_path / "two") == rows(tmp_path / "pieces")
    one = rows(tmp_path / "one")
    assert [r["train/loss"] for r in rows(tmp_path / "two")] == pytest.approx([r["train/loss"] for r in one], rel=1e-4)


SCRIPT = """
import small
import torch
from runner.core.card import card
from runner.core.errors import UserError
from runner.core.events import Component
from runner.core.parallel import World


class Counts:
    seen = 0

    def __init__(self, own):
        self.own = own

    def losses(self, state, losses, batch):
        self.seen += int(batch.i.sum()) if self.own else 0
        state.per_sample["seen"][batch.i] += 1
        return losses

    def setup(self, state):
        state.per_sample["seen"] = torch.zeros(len(state.data.train), dtype=torch.long)


for own in (False, True):
    loop = small.loop(Component("with/counts", Counts(own), card(rung={"losses": "select"})))
    world = loop.state.world = World.join(torch.device("cpu"))
    try:
        loop.run()
        said = "agreed"
    except UserError as error:
        said = str(error)
    print(world.rank, own, said, loop.state.per_sample["seen"].unique().tolist(), flush=True)
world.close()
"""


def test_rows_are_shared_and_statistics_of_a_piece_are_refused(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    lines = start(tmp_path, [*TORCHRUN, "script.py"]).stdout.splitlines()
    said = {line.split(" ", 2)[0] + line.split(" ", 2)[1]: line.split(" ", 2)[2] for line in lines}
    assert said["0False"] == said["1False"] == "agreed [2]"  # every row was seen once an epoch, by whichever process
    assert "with/counts keeps statistics of its own piece" in said["0True"]
    assert "with/counts" in said["1True"]
