"""`runner check A B [OVERRIDES]`: which components act when and why in this order, and what conflicts. Exit status 1 if something does."""

import os

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from runner.cli import arguments
from runner.core.errors import UserError


def main(argv: list[str]) -> int:
    parser = arguments.parser("check", __doc__, sweep=False)
    parser.usage = "runner check A B [OVERRIDES]"
    asked = arguments.parse(argv, parser)
    from runner.config import compose
    from runner.report import check

    names = [a for a in asked.overrides if "=" not in a and not a.startswith("~")]
    if not names:
        raise UserError("check takes names of components, such as: runner check mixup sam rigl")
    named = [check.find(name) for name in dict.fromkeys(names)]
    overrides = compose.rewrite([*check.overrides(named), *(a for a in asked.overrides if a not in names)])
    with compose.composer(asked.config_name) as composed:
        config = check.unjudged(composed(overrides))
    os.environ["RUNNER_OFFLINE"] = "1"  # to look is no reason to download
    acts, conflicts, unknown = check.acts(check.components(config)), check.conflicts(config, named), ""
    try:
        conflicts += check.misfits(config)
    except UserError as error:
        unknown = f"whether all fit the data is not known: {error}"

    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False)
    for heading in ("event", "when", "", "component", "why there"):
        table.add_column(heading)
    for event, when in check.TIMES.items():
        for turn, act in enumerate((a for a in acts if a.event == event), 1):
            table.add_row(*((event, when) if turn == 1 else ("", "")), str(turn), act.component, act.why)
    console.print(table)
    acting = {act.component for act in acts}
    for group, option in named:
        if f"{group}/{option}" not in acting:
            console.print(f"{group}/{option} acts at no event: {check.ELSEWHERE.get(group, 'it is built before the run')}", markup=False, soft_wrap=True)
    for line in conflicts:
        console.print(f"[red]conflict[/]: {escape(line)}", soft_wrap=True)
    for line in filter(None, (unknown, "" if conflicts else "no conflicts")):
        console.print(line, markup=False, soft_wrap=True)
    return int(bool(conflicts))
