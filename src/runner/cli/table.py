"""`runner table RECIPE[:TABLE]`: run what is missing of a recipe's table and print it, mean ± interval over seeds beside the published values."""

import argparse
import shlex
import sys
from pathlib import Path

from runner.cli import arguments
from runner.config import recipes
from runner.core.errors import UserError, nearest
from runner.execution.plan import Plan
from runner.report import cells, jobs, statistics
from runner.report.summary import output
from runner.report.table import Table, collect

FORMATS = ("rich", "md", "latex", "csv", "json")
PICTURES = (".png", ".svg", ".pdf")


def main(argv: list[str]) -> int:
    asked = parse(argv)
    recipe, _, name = asked.recipe.partition(":")
    name, spec = cells.table(recipe, name, asked.scale)
    wanted = cells.of_table(recipe, spec, asked.scale, asked.seeds, asked.overrides)
    plan = cells.plan(wanted)
    states = run(plan, asked.no_run)
    found = collect(recipe, name, asked.scale, wanted, plan, asked.overrides)
    show(found, asked.format)
    if asked.plot:
        from runner.report import plots

        plots.save(plots.of_table(found), asked.plot)
    return ending(found, plan, states, shlex.join(["runner", "table", *(a for a in argv if a != "--no-run")]), asked.no_run)


def parser(command: str, about: str) -> argparse.ArgumentParser:
    """The flags of all commands that need the runs of a recipe."""
    parser = arguments.Parser(prog=f"runner {command}", description=about, allow_abbrev=False)
    parser.add_argument("--scale", default="mini", help="smoke, mini (default) or paper")
    parser.add_argument("--seeds", type=statistics.seeds, help="such as 0-4 or 0,3,7; the recipe's own number without")
    parser.add_argument("--no-run", action="store_true", help="show what is there, run nothing")
    arguments.own_folder(parser)
    return parser


def checked(asked: argparse.Namespace) -> argparse.Namespace:
    """Raises UserError for what a parser cannot know."""
    arguments.add(asked.config_dir)
    scales = recipes.CONF / "scale"
    if not (scales / f"{asked.scale}.yaml").is_file():
        raise UserError(f"no scale '{asked.scale}'{nearest(asked.scale, [f.stem for f in scales.glob('*.yaml')])}")
    return asked


def parse(argv: list[str]) -> argparse.Namespace:
    found = parser("table", __doc__)
    found.add_argument("recipe", metavar="RECIPE[:TABLE]", help="such as noisy_labels; its first table without :TABLE")
    found.add_argument("overrides", nargs="*", help="for all cells, such as model.width=512")
    found.add_argument("--format", choices=FORMATS, default="rich")
    found.add_argument("--plot", type=Path, metavar="FILE", help="draw the table too: .png, .svg or .pdf")
    asked = checked(found.parse_intermixed_args(argv))
    asked.overrides = tuple(asked.overrides)
    for override in asked.overrides:
        if (flag := override.lstrip("+").partition("=")[0]) in ("scale", "seed", "recipe"):
            raise UserError(f"'{override}' is not for single cells: a table takes " + {"scale": "--scale", "seed": "--seeds"}.get(flag, "one recipe"))
    if asked.plot and asked.plot.suffix not in PICTURES:
        raise UserError(f"--plot {asked.plot}: a plot is a file that ends in {', '.join(PICTURES)}")
    if asked.plot and not asked.plot.parent.is_dir():
        raise UserError(f"--plot {asked.plot}: there is no folder {asked.plot.parent}")
    return asked


def run(plan: Plan, no_run: bool) -> dict[str, str]:
    """The states of a plan's runs, after what is missing was run."""
    if no_run:
        return plan.states()
    from runner.cli import sweep

    return sweep.run(plan)


def show(found: Table, kind: str) -> None:
    """Print the table; nothing else goes to stdout."""
    from runner.report import formats

    if kind != "rich":
        print(formats.TEXT[kind](found), end="", flush=True)
        return
    output().print(formats.rich(found))


def ending(found: Table, plan: Plan, states: dict[str, str], command: str, no_run: bool) -> int:
    """Say what fills the holes, and give the exit status."""
    holes = found.missing()
    if any(states[run] != "done" for run in holes):
        print(f"runner: {jobs.counts(states)}; this runs what is not done: {command}", file=sys.stderr)
    if unmeasured := [run for run in holes if states[run] == "done"]:
        known = plan.store.done(unmeasured[0])["summary"]
        print(f"runner: {len(unmeasured)} runs did not measure '{found.metric}', or not so often{nearest(found.metric, known)}", file=sys.stderr)
    if "stopped" in states.values() and not no_run:
        return 130
    return int(bool(holes) and not no_run)
