"""`runner show GROUP=OPTION`: the card of a component, a preset or a recipe."""

import re

from rich.console import Console
from rich.table import Table

from runner.cli import arguments
from runner.cli.list import presets
from runner.config import recipes
from runner.config.schema import schema
from runner.core.errors import UserError
from runner.report.summary import output


def main(argv: list[str]) -> int:
    parser = arguments.Parser(prog="runner show", description=__doc__, allow_abbrev=False)
    parser.add_argument("what", nargs="*", metavar="GROUP=OPTION", help="such as loss=ce or recipe=noisy_labels")
    arguments.own_folder(parser)
    asked = parser.parse_intermixed_args(argv)
    arguments.add(asked.config_dir)
    what = asked.what
    if len(what) != 1 or not re.fullmatch(r"\+?\w+[=/][\w/]+", what[0]):
        raise UserError("show takes one GROUP=OPTION, such as: runner show loss=ce")
    group, option = re.split(r"[=/]", what[0].lstrip("+"), maxsplit=1)
    console = Console(highlight=False, soft_wrap=True)
    if group == "recipe":
        recipe = recipes.read(option)
        console.print(f"recipe {option}: {(recipe.get('paper') or {}).get('title', '')}", markup=False)
        console.print(recipes.names()[option].read_text(), markup=False)
        return 0
    if file := presets(group).get(option):
        console.print(file.read_text(), markup=False, end="")
        return 0
    known = schema(group, option)
    console.print(f"[bold]{group}={option}[/]  {known.summary}")
    card = known.card
    facts = {
        "paper": " ".join(filter(None, [card.paper, card.arxiv and f"arXiv:{card.arxiv}"])), "checked against": card.source,
        "for": ", ".join([*card.tasks, *(["images"] if card.images else []), *(["token ids"] if card.tokens else [])]),
        "owns": ", ".join(card.owns), "acts on": ", ".join(card.uses),
        "rungs": ", ".join(f"{event} {rung}" for event, rung in card.rung.items()),
        "off-switch": " ".join(f"{k}={v}" for k, v in (card.off or {}).items()), "source": known.file,
    }  # fmt: skip
    for name, value in facts.items():
        if value:
            console.print(f"  {name}: {value}", markup=False)
    if known.parameters:
        prefix = f"{group}.{option}" if known.group in ("with", "eval", "probe") else group
        table = Table("key", "default", "type", "meaning", box=None)
        for p in known.parameters.values():
            table.add_row(f"{prefix}.{p.name}", "required" if p.required else str(p.default), p.type, p.help)
        output().print(table)
    if used := recipes.using(group, option):
        console.print(f"  recipes: {', '.join(used)}", markup=False)
    return 0
