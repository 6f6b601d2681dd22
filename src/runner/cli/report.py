"""`runner report RECIPE`: run what is missing of all tables of a recipe, and write one HTML page with tables, plots, claims and settings."""

import argparse
from pathlib import Path

from runner.cli.table import checked, parser, run
from runner.cli.verify import estimate
from runner.config import recipes
from runner.core.errors import UserError
from runner.execution.plan import Plan
from runner.report import cells
from runner.report.table import Table, collect


def main(argv: list[str]) -> int:
    from runner.report.page import page

    asked = parse(argv)
    spec = recipes.read(asked.recipe)
    shown: list[tuple[Table, Plan]] = []
    skipped: dict[str, str] = {}
    for name in cells.tables(asked.recipe, asked.scale):
        try:
            _, table_spec = cells.table(asked.recipe, name, asked.scale)
            wanted = cells.of_table(asked.recipe, table_spec, asked.scale, asked.seeds)
            plan = cells.plan(wanted)
        except UserError as error:
            skipped[name] = str(error)
            continue
        states = run(plan, asked.no_run)
        if "stopped" in states.values() and not asked.no_run:
            return 130
        table = collect(asked.recipe, name, asked.scale, wanted, plan)
        if any(entry.values for entry in table.cells.values()):
            shown.append((table, plan))
        else:
            skipped[name] = why(plan, states)
    if not shown:
        raise UserError(
            f"recipe {asked.recipe} has nothing to show at scale {asked.scale}: " + ("; ".join(f"{k}: {v}" for k, v in skipped.items()) or "no tables")
        )
    _, plan = shown[0]
    claims = judged(asked, spec.get("claims") or [])
    asked.out.write_text(page(asked.recipe, spec, [table for table, _ in shown], plan.store, plan.jobs[0].plain, skipped, claims))
    print(asked.out)
    return 0


def parse(argv: list[str]) -> argparse.Namespace:
    found = parser("report", __doc__)
    found.add_argument("recipe", metavar="RECIPE", help="such as noisy_labels")
    found.add_argument("--out", type=Path, metavar="FILE", help="the page; RECIPE-SCALE.html without")
    asked = checked(found.parse_args(argv))
    asked.out = asked.out or Path(f"{asked.recipe.replace('/', '-')}-{asked.scale}.html")
    if asked.out.is_dir():
        raise UserError(f"--out {asked.out} is a folder; name a file in it")
    if not asked.out.parent.is_dir():
        raise UserError(f"--out {asked.out}: there is no folder {asked.out.parent}")
    return asked


def why(plan: Plan, states: dict[str, str]) -> str:
    """Why none of a table's runs has a value."""
    errors = [failed["error"] for run, state in states.items() if state == "failed" and (failed := plan.store.failed(run))]
    return errors[0] if errors else "none of its runs is done, or none measured its metric"


def judged(asked: argparse.Namespace, claims: list[dict]) -> list[tuple[str, str, str]]:
    """Sentence, condition and verdict of each claim at its own scale; its runs are made only where that is the report's scale."""
    from runner.report.verdict import judge, spelled

    def words(found) -> str:
        numbers = [estimate(found), f"scale {found.scale}", f"seeds {spelled(found.seeds)}"]
        more = [f"{found.needed} more seeds"] if found.needed else []
        return f"{found.verdict}: " + (found.reason or ", ".join(filter(None, [*numbers, *more])))

    run = not asked.no_run and all(claim.get("scale", "mini") == asked.scale for claim in claims)
    return [(v.claim.say, v.claim.condition, words(v)) for v in judge(asked.recipe, seeds=asked.seeds, run=run)] if claims else []
