"""Verify the claims of recipes, all if none is named, and write results/verdicts.csv, recipes/README.md and the guides of families.

Runs that are in the store are not run again.

python scripts/scoreboard.py                                # each claim's own seeds, from 0 on
python scripts/scoreboard.py --seeds 1000-1004              # others beside them
python scripts/scoreboard.py --seeds 1000-1009 noise/apl    # of one recipe
"""

import argparse
from pathlib import Path

from runner.config import recipes
from runner.report import guide, scoreboard, statistics
from runner.report.verdict import judge_all

ROOT = Path(__file__).resolve().parents[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", metavar="RECIPE")
    parser.add_argument("--seeds", type=statistics.seeds, help="such as 0-4; each claim's own if not given")
    asked = parser.parse_args()
    chosen = asked.recipes or [name for name in recipes.names() if recipes.read(name).get("claims")]
    rows = scoreboard.update(ROOT / "results" / "verdicts.csv", judge_all(chosen, seeds=asked.seeds, run=True))
    (recipes.RECIPES / "README.md").write_text(scoreboard.page(rows))
    for folder, text in guide.pages(rows).items():
        (recipes.RECIPES / folder / "README.md").write_text(text)


if __name__ == "__main__":  # a job's process imports this file too
    main()
