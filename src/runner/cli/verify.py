"""`runner verify RECIPE...`: do the claims of papers hold here? Runs what is missing and judges."""

import json

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from runner.cli import arguments
from runner.config import recipes
from runner.core.errors import UserError, nearest
from runner.report.summary import output

COLOURS = {"held": "green", "refuted": "red", "undecided": "yellow"}


def main(argv: list[str]) -> int:
    parser = arguments.Parser(prog="runner verify", description=__doc__, allow_abbrev=False)
    parser.add_argument("recipes", nargs="*", metavar="RECIPE")
    parser.add_argument("--all", action="store_true", help="every recipe with claims")
    parser.add_argument("--seeds", help="such as 1000-1004 or 0-4,7; each claim's own if not given")
    parser.add_argument("--scale", choices=("smoke", "mini", "paper"), help="each claim's own if not given")
    parser.add_argument("--json", action="store_true", help="a JSON list on standard output")
    parser.add_argument("--no-run", action="store_true", help="judge what is in the store")
    arguments.own_folder(parser)
    asked = parser.parse_intermixed_args(argv)
    arguments.add(asked.config_dir)
    chosen, seeds = picked(asked.recipes, asked.all), seed_list(asked.seeds)

    from runner.report.verdict import judge_all

    verdicts = judge_all(chosen, asked.scale, seeds, run=not asked.no_run)
    if asked.json:
        print(json.dumps([plain(v) for v in verdicts], indent=1))
    else:
        print_verdicts(verdicts)
    return int(any(v.verdict != "held" for v in verdicts))


def picked(named: list[str], every: bool) -> list[str]:
    """The recipes to verify. Raises UserError for one that is not there or claims nothing."""
    if every == bool(named):
        raise UserError("verify takes recipes, such as: runner verify noise/elr; or --all")
    for name in named:
        if name not in recipes.names():
            raise UserError(f"no recipe '{name}'{nearest(name, recipes.names())}")
        if not recipes.read(name).get("claims"):
            raise UserError(f"recipe {name} has no claims")
    return list(dict.fromkeys(named)) or [name for name in recipes.names() if recipes.read(name).get("claims")]


def seed_list(text: str | None) -> list[int] | None:
    """`0-4` -> [0, ..., 4], each once. Raises UserError."""
    from runner.report.statistics import seeds

    try:
        return None if text is None else sorted(set(seeds(text)))
    except ValueError as error:
        raise UserError(f"--seeds {text} is not valid; it takes 0-4, or 0,1,7") from error


def plain(verdict) -> dict:
    """A verdict as JSON has it."""
    about = {"recipe": verdict.claim.recipe, "claim": verdict.claim.say, "condition": verdict.claim.condition}
    return about | {key: getattr(verdict, key) for key in ("verdict", "effect", "low", "high", "seeds", "needed")}


def print_verdicts(verdicts: list, console: Console | None = None) -> None:
    """All verdicts, and below them why some are undecided."""
    from runner.report.verdict import spelled

    console = console or output()
    table = Table("recipe", "claim", "verdict (one-sided)", "effect [95 %, two-sided]", "seeds")
    for v in verdicts:
        word = f"{v.verdict} ({v.needed} more)" if v.needed else v.verdict
        claim = f"{escape(v.claim.say)}\n[dim]{escape(v.claim.condition)}[/]"
        table.add_row(v.claim.recipe, claim, f"[{COLOURS[v.verdict]}]{word}[/]", escape(estimate(v)), spelled(v.seeds))
    console.print(table)
    for v in verdicts:
        if v.reason:
            console.print(f"{v.claim.recipe}, {v.claim.condition}: undecided: {v.reason}", markup=False, soft_wrap=True)


def estimate(verdict) -> str:
    """`22.7 [19.1, 26.3]`."""
    if verdict.effect is None:
        return ""
    bounds = f" [{verdict.low:.4g}, {verdict.high:.4g}]" if verdict.low is not None else ""
    return f"{verdict.effect:.4g}{bounds}"
