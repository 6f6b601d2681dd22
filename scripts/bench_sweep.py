"""What a sweep of short runs costs: the same jobs by `runner -m` and by Hydra's launchers, each in a fresh process and an empty folder.

    python scripts/bench_sweep.py                # 100 jobs of about 0.3 s; rows are appended to results/sweep.csv
    python scripts/bench_sweep.py --jobs 10 --only runner --out /tmp/sweep.csv

runner      `runner -m`, launcher=local; wall time from the shell to the end
unchanged   the same command again: nothing is left to do
basic       Hydra's own launcher: one process, one job after the other
joblib      hydra-joblib-launcher, a job a core (pip install hydra-joblib-launcher)
worker      memory of a process of the pool that has done nothing yet

`training` is the mean of what the runs themselves say they took; `load` is the machine's before the start.
"""

import argparse
import csv
import importlib.util
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from runner.components.launcher import local  # noqa: E402
from runner.execution import WARM  # noqa: E402
from runner.execution.record import environment  # noqa: E402

RECIPE = ["+recipe=noisy_labels", "trainer.duration=14ep"]  # one thread trains that in about 0.3 s
APP = [str(ROOT / "scripts" / "bench_sweep_app" / "app.py"), "-m"]
CORES = len(os.sched_getaffinity(0))
COMMANDS = {
    "basic": APP,
    "joblib": [*APP, "hydra/launcher=joblib", f"hydra.launcher.n_jobs={CORES}"],
    "runner": ["-m", "runner", "-m"],
}


def sweep(command: list[str], jobs: int, folder: Path) -> dict:
    """Time a command that runs the jobs, or finds them done, in a folder."""
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "RUNNER_STORE": str(folder / "runs")}
    load, begin = os.getloadavg()[0], time.perf_counter()
    done = subprocess.run([sys.executable, *command, *RECIPE, f"seed=range({jobs})"], cwd=folder, env=env, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - begin
    records = [json.loads(f.read_text()) for f in folder.glob("runs/*/done.json")]
    if done.returncode or len(records) != jobs:
        sys.exit(f"{' '.join(command)} ended with status {done.returncode}:\n{done.stderr[-3000:]}")
    return {"seconds": seconds, "training": sum(r["seconds"] for r in records) / jobs, "load": load}


def measured(names: list[str], jobs: int) -> list[dict]:
    rows = []
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            rows.append({"launcher": name, **sweep(COMMANDS[name], jobs, Path(folder))})
            if name == "runner":
                rows.append({"launcher": "unchanged", **sweep(COMMANDS[name], jobs, Path(folder))})
    basic = next((r["seconds"] for r in rows if r["launcher"] == "basic"), None)
    return [{**row, "ratio": row["seconds"] / basic if basic else None} for row in rows]


def memory() -> str:
    """What a process of the pool holds that has done nothing yet."""
    os.environ["PYTHONPATH"] = str(ROOT / "src")
    launcher = local.build()
    launcher.prepare(WARM)
    launcher.expect([["data", "digits"], ["model", "mlp"], ["noise", "symmetric"], ["with", "elr"]], [])
    workers = [multiprocessing.get_context("forkserver").Process(target=time.sleep, args=(3,)) for _ in range(4)]
    for worker in workers:
        worker.start()
    time.sleep(1)
    lines = Path(f"/proc/{workers[-1].pid}/smaps_rollup").read_text().splitlines()[1:]
    mb = {key: int(value.split()[0]) / 1024 for key, _, value in (line.partition(":") for line in lines)}
    for worker in workers:
        worker.join()
    return f"{mb['Private_Clean'] + mb['Private_Dirty']:.1f} MB of its own; {mb['Pss']:.1f} MB with its share of the rest; {mb['Rss']:.0f} MB resident"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=1, help="so often all of them in turn: a shared machine is not always as fast")
    parser.add_argument("--only", choices=[*COMMANDS, "worker"], action="append")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "sweep.csv")
    asked = parser.parse_args()
    names = [n for n in COMMANDS if asked.only is None or n in asked.only]
    if "joblib" in names and not importlib.util.find_spec("hydra_plugins.hydra_joblib_launcher"):
        names.remove("joblib")
        print("joblib is left out: pip install hydra-joblib-launcher")
    rows = []
    print(f"{'launcher':12}{'jobs':>6}{'seconds':>10}{'s/job':>8}{'training':>10}{'load':>7}{'ratio':>8}")
    for _ in range(asked.rounds):
        for r in (new := measured(names, asked.jobs)):
            ratio, each = f"{r['ratio']:8.3f}" if r["ratio"] else "", r["seconds"] / asked.jobs
            print(f"{r['launcher']:12}{asked.jobs:6}{r['seconds']:10.2f}{each:8.3f}{r['training']:10.3f}{r['load']:7.2f}{ratio}", flush=True)
        rows += new
    if ratios := [r["ratio"] for r in rows if r["launcher"] == "runner" and r["ratio"]]:
        print(f"runner / basic: {statistics.median(ratios):.3f}, the median of {len(ratios)}")
    if asked.only is None or "worker" in asked.only:
        print(f"worker      {memory()}")
    about = {"jobs": asked.jobs, "cores": CORES, "hydra": version("hydra-core"), **environment(), "date": datetime.now(UTC).date().isoformat()}
    if not rows:
        return
    asked.out.parent.mkdir(exist_ok=True)
    new = not asked.out.exists()
    with asked.out.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, [*rows[0], *about])
        if new:
            writer.writeheader()
        writer.writerows({**r, **about} for r in rows)


if __name__ == "__main__":
    main()
