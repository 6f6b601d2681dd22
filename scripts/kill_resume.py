"""Kill a run with SIGKILL at random moments, start the same command each time, and compare its record with that of an undisturbed run.

python scripts/kill_resume.py --kills 20 --seed 0
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-m", "runner", "+recipe=noisy_labels", "model.dropout=0.2", "display=none", "trainer.checkpoint_every=0.1"]


def start(folder: Path, epochs: int) -> subprocess.Popen:
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*COMMAND, f"trainer.duration={epochs}ep"], cwd=folder, env=env)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    draw = random.Random(asked.seed)
    with tempfile.TemporaryDirectory() as place:
        straight, broken = Path(place, "straight"), Path(place, "broken")
        straight.mkdir(), broken.mkdir()
        assert start(straight, asked.epochs).wait() == 0
        (record,) = (straight / "runs").iterdir()
        kills, running, steps = 0, 0, []
        while kills < asked.kills:
            claim = broken / "runs" / record.name / f"claim-{kills + 1}.json"
            process = start(broken, asked.epochs)
            while not claim.exists() and process.poll() is None:
                time.sleep(0.005)  # from here on it trains
            time.sleep(draw.uniform(0, 1.0))
            if process.poll() is not None:
                sys.exit(f"the run ended after {kills} kills: give it more --epochs")
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            saved = sorted((broken / "runs" / record.name / "checkpoints").glob("*.pt"))
            steps.append(int(saved[-1].name.split("-")[0]) if saved else 0)
            running += len(steps) > 1 and steps[-1] > steps[-2]
        assert start(broken, asked.epochs).wait() == 0
        same = (record / "metrics.jsonl").read_bytes() == (broken / "runs" / record.name / "metrics.jsonl").read_bytes()
        print(f"{kills} kills; checkpoints at steps {steps}; further than before {running} times; metrics {'equal' if same else 'DIFFER'}")
        sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
