"""`runner list [GROUP]`: groups, options, recipes."""

from pathlib import Path

from rich.table import Table

from runner.cli import arguments
from runner.config import recipes, registry
from runner.config.places import CONF
from runner.config.schema import schema
from runner.core.errors import UserError, nearest
from runner.report.summary import output


def main(argv: list[str]) -> int:
    parser = arguments.Parser(prog="runner list", description=__doc__, allow_abbrev=False)
    parser.add_argument("group", nargs="?", metavar="GROUP", help="such as loss, or recipe")
    arguments.own_folder(parser)
    asked = parser.parse_intermixed_args(argv)
    arguments.add(asked.config_dir)
    group, console = asked.group, output()
    if group is None:
        table = Table("group", "options", box=None)
        for group, many in registry.GROUPS.items():
            names = [*registry.options(group), *presets(group)]
            table.add_row(group + (" (several)" if many else ""), ", ".join(names))
        table.add_row("scale", ", ".join(presets("scale")))
        table.add_row("recipe", ", ".join(recipes.names()))
        console.print(table)
        return 0
    table = Table("option", "what it is", box=None)
    if group in ("recipe", "recipes"):
        for name in recipes.names():
            table.add_row(name, str((recipes.read(name).get("paper") or {}).get("title", "")))
    elif group in (*registry.GROUPS, "scale"):
        for option in registry.options(group):
            table.add_row(option, schema(group, option).summary)
        for name, file in presets(group).items():
            table.add_row(name, "preset: " * (group != "scale") + about(file))
    else:
        raise UserError(f"no group '{group}'{nearest(group, [*registry.GROUPS, 'scale', 'recipe'])}")
    console.print(table)
    return 0


def about(file: Path) -> str:
    """The first comment of a preset."""
    return next((line.lstrip("# ") for line in file.read_text().splitlines() if line.startswith("#") and "@package" not in line), "")


def presets(group: str) -> dict[str, Path]:
    """Named settings of a group's options: name -> file, of `conf/` and of the user's own folders."""
    own = (file for folder in reversed(registry.folders()[1:]) for file in (folder / group).glob("*.yaml"))
    found = {file.stem: file for file in own if file.stem not in registry.options(group)} | {file.stem: file for file in (CONF / group).glob("*.yaml")}
    return dict(sorted(found.items()))
