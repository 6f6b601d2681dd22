"""What the loop costs: ratios measured in one run, in turn with the peers, on this machine.

    python scripts/bench_loop.py                 # all, appended to results/loop.csv
    python scripts/bench_loop.py --only mlp --repeats 9

mlp, resnet   a training step of the loop over the step of a loop written by hand in plain PyTorch (and Lightning's, if installed)
start         from the shell's prompt to the first step, over `import torch`
"""

import argparse
import csv
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import nn

from runner import card
from runner.config import registry
from runner.core.clock import Clock
from runner.core.data import Data, Info, Split
from runner.core.events import Component
from runner.core.loop import Loop
from runner.core.measure import Measures
from runner.core.state import State
from runner.execution.record import environment

ROOT = Path(__file__).resolve().parents[1]
NEVER = "1000000it"
LIGHTNING = next((name for name in ("lightning", "pytorch_lightning") if importlib.util.find_spec(name)), None)
CASES = {  # goal: the largest ratio to the loop by hand; shape and number of the inputs
    "mlp": {"goal": 1.15, "steps": 690, "batch": 64, "shape": (64,), "samples": 1438, "model": ("mlp", {})},
    "resnet": {"goal": 1.05, "steps": 6, "batch": 32, "shape": (3, 32, 32), "samples": 512, "model": ("resnet", {"depth": 18})},
}


def option(group: str, name: str, **args):
    """What a component builds."""
    return registry.load(group, name).build(**args)


def prepared(case: dict, device: str) -> Loop:
    """A loop on random inputs of ten classes that measures nothing."""
    data = Data(
        Info("classification", case["shape"], 10), *(Split(torch.randn(case["samples"], *case["shape"]), torch.randint(10, (case["samples"],))) for _ in "ab")
    )
    training = option("trainer", "standard", duration=f"{case['steps']}it", batch_size=case["batch"], eval_every=NEVER, log_every=NEVER, probe_every=NEVER)
    name, args = case["model"]
    model = option("model", name, **args)(data.info, option("softmax", "softmax")).to(device)
    clock = Clock(-(-case["samples"] // case["batch"]), case["steps"])
    state = State(model, option("loss", "ce"), data.to(device), torch.device(device), clock, option("optimizer", "sgd"), seed=0)
    learner = Component("learner/supervised", option("learner", "supervised"), card())
    loop = Loop(state, learner, [learner], option("schedule", "constant"), Measures([], [], lambda row: None), training)
    loop.measures.finish = lambda loop: {}
    return loop


def ours(case, device):
    loop = prepared(case, device)
    start = clock(device)
    loop.run()
    return (clock(device) - start) / case["steps"]


def by_hand(case, device):
    loop = prepared(case, device)
    model, x, y = loop.state.model.train(), loop.state.data.train.x, loop.state.data.train.y
    optimizer = torch.optim.SGD(model.parameters(), 0.05, 0.9)
    step, start = 0, clock(device)
    while step < case["steps"]:
        for rows in torch.randperm(len(y)).to(device).split(case["batch"]):
            loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            if step == case["steps"]:
                break
    return (clock(device) - start) / case["steps"]


def lightning(case, device):
    L = importlib.import_module(LIGHTNING)
    loop = prepared(case, device)
    x, y = loop.state.data.train.x, loop.state.data.train.y

    class Module(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = loop.state.model

        def training_step(self, batch, _):
            return nn.functional.cross_entropy(self.model(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.05, 0.9)

        def on_train_start(self):
            self.start = clock(device)

        def on_train_end(self):
            self.seconds = clock(device) - self.start

    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), case["batch"], shuffle=True)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    module = Module()
    L.Trainer(max_steps=case["steps"], accelerator="gpu" if device == "cuda" else "cpu", devices=1, **quiet).fit(module, loader)
    return module.seconds / case["steps"]


def clock(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def compare(name: str, repeats: int, device: str) -> list[dict]:
    """Median step time of each loop, measured in turn, and the median of the ratios pair by pair."""
    case = CASES[name] | ({"steps": 200, "batch": 128} if device == "cuda" else {})
    peers = {"by hand": by_hand} | ({"lightning": lightning} if LIGHTNING else {})
    times: dict[str, list[float]] = {"runner": [], **{p: [] for p in peers}}
    for k in range(repeats + 1):
        for peer, run in {"runner": ours, **peers}.items():
            seconds = run(case, device)
            if k:  # the first round warms up
                times[peer].append(seconds)
    rows = []
    for peer in peers:
        ratios = sorted(a / b for a, b in zip(times["runner"], times[peer], strict=True))
        rows.append({"what": f"{name} step", "peer": peer, "ratio": statistics.median(ratios), "low": ratios[0], "high": ratios[-1],
                     "ours_us": 1e6 * statistics.median(times["runner"]), "peer_us": 1e6 * statistics.median(times[peer]),
                     "goal": case["goal"] if peer == "by hand" else ""})  # fmt: skip
    return rows


def start(repeats: int) -> list[dict]:
    """Wall time of a run of one step over that of `import torch`."""
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}

    def wall(*command):
        with tempfile.TemporaryDirectory() as folder:
            begin = time.perf_counter()
            subprocess.run([sys.executable, *command], cwd=folder, env=env, check=True, capture_output=True)
            return time.perf_counter() - begin

    one_step = ("-m", "runner", "+recipe=noisy_labels", "trainer.duration=1it")
    pairs = [(wall(*one_step), wall("-c", "import torch")) for _ in range(repeats + 1)][1:]
    ratios = sorted(a / b for a, b in pairs)
    return [{"what": "start to first step", "peer": "import torch", "ratio": statistics.median(ratios), "low": ratios[0], "high": ratios[-1],
             "ours_us": 1e6 * statistics.median(a for a, _ in pairs), "peer_us": 1e6 * statistics.median(b for _, b in pairs), "goal": ""}]  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=[*CASES, "start"])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "loop.csv")
    asked = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(asked.threads)
    rows = []
    for name in CASES:
        if asked.only in (None, name):
            rows += compare(name, asked.repeats, asked.device)
    if asked.only in (None, "start"):
        rows += start(asked.repeats)
    about = environment() | {"device": asked.device, "threads": asked.threads, "date": datetime.now(UTC).date().isoformat()}
    print(f"{'what':22}{'peer':14}{'ratio':>7}{'low':>7}{'high':>7}{'ours us':>11}{'peer us':>11}{'goal':>7}")
    for r in rows:
        print(f"{r['what']:22}{r['peer']:14}{r['ratio']:7.3f}{r['low']:7.3f}{r['high']:7.3f}{r['ours_us']:11.0f}{r['peer_us']:11.0f}{r['goal']!s:>7}")
    asked.out.parent.mkdir(exist_ok=True)
    new = not asked.out.exists()
    with asked.out.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, [*rows[0], *about])
        if new:
            writer.writeheader()
        writer.writerows({**r, **about} for r in rows)


if __name__ == "__main__":
    main()
