"""Two settings of one recipe over paired seeds: mean difference with its 95 % interval; one row a run into a CSV file.

    python scripts/compare.py --a 'with=[elr]' --b 'with=[]' --seeds 0-4 +recipe=noisy_labels noise.rate=0.4

Runs that are in the store already are not run again.
"""

import argparse
import csv
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from scipy import stats

from runner.config import compose
from runner.config.bind import bind
from runner.execution.record import environment
from runner.execution.run import execute
from runner.report.display import Silent

ROOT = Path(__file__).resolve().parents[1]


def interval(differences: np.ndarray) -> tuple[float, float]:
    """Mean and half-width of its 95 % interval, by Student's t over the pairs."""
    half = stats.t.ppf(0.975, len(differences) - 1) * stats.sem(differences)
    return float(differences.mean()), float(half)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--a", action="append", required=True, help="an override of the first setting; may be given again")
    parser.add_argument("--b", action="append", required=True, help="an override of the second setting; may be given again")
    parser.add_argument("--seeds", default="0-4")
    parser.add_argument("--metric", default="test/acc_last")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "compare.csv")
    asked = parser.parse_args()
    first, _, last = asked.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    values, rows, about = {}, [], environment() | {"date": datetime.now(UTC).date().isoformat()}
    with compose.composer() as composed:
        for arm, own in (("a", asked.a), ("b", asked.b)):
            for seed in seeds:
                overrides = [*asked.overrides, *own, f"seed={seed}"]
                record, done = execute(bind(composed(compose.rewrite([*overrides, "display=none"]))), Silent())
                values.setdefault(arm, []).append(done["summary"][asked.metric])
                rows.append(
                    {"run": record.id, "overrides": " ".join(overrides), "seed": seed, "seconds": done["seconds"], "metric": asked.metric}
                    | {"value": values[arm][-1]}
                    | about
                )
    mean, half = interval(np.subtract(values["a"], values["b"]))
    print(f"{' '.join(asked.overrides)}, seeds {asked.seeds}, {asked.metric}")
    print(f"a  {' '.join(asked.a):40} {np.mean(values['a']):8.2f}")
    print(f"b  {' '.join(asked.b):40} {np.mean(values['b']):8.2f}")
    print(f"a - b {mean:+.2f} ± {half:.2f} (95 %, {len(seeds)} pairs)")
    asked.out.parent.mkdir(exist_ok=True)
    new = not asked.out.exists()
    with asked.out.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        if new:
            writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
