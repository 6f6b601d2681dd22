"""`runner new GROUP/NAME`: a component, a recipe and their tests that run at once and wait to be changed."""

import keyword
import os
import re
import shlex
from pathlib import Path

from runner.cli.arguments import Parser
from runner.config import registry
from runner.config.places import checkout
from runner.core.errors import UserError, nearest

TEMPLATES = Path(__file__).parent / "templates"


def main(argv: list[str]) -> int:
    parser = Parser(prog="runner new", description=__doc__, allow_abbrev=False)
    parser.add_argument("what", metavar="GROUP/NAME", help="such as loss/my_loss or with/my_hook")
    parser.add_argument("--arxiv", default="", help="number of the paper")
    parser.add_argument("--dir", type=Path, help="a folder of your own, used with --config-dir; else the checkout that you stand in")
    asked = parser.parse_args(argv)
    group, _, name = asked.what.partition("/")
    files = plan(group, name, asked.arxiv, asked.dir)
    if there := [f for f in files if f.exists()]:
        raise UserError(f"{there[0]} is there already; nothing was written")
    for file, text in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        print(os.path.relpath(file))
    _, recipe, test = files
    flags = ["--config-dir", str(asked.dir)] if asked.dir else []
    run, check = ["runner", *flags, f"+recipe={recipe_name(recipe)}"], ["pytest", os.path.relpath(test)]
    print(f"\nrun it:   {shlex.join(run)}\ntest it:  {shlex.join(check)}")
    return 0


def recipe_name(file: Path) -> str:
    parts = file.with_suffix("").parts
    start = max(k for k, part in enumerate(parts) if part in ("recipes", "recipe")) + 1
    return "/".join(parts[start:])


def plan(group: str, name: str, arxiv: str, folder: Path | None) -> dict[Path, str]:
    """The files to write and their content. Raises UserError."""
    known = sorted(p.stem for p in TEMPLATES.glob("*.txt") if p.stem in registry.GROUPS)
    if group not in known:
        raise UserError(f"no template for group '{group}'{nearest(group, known)}")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise UserError(f"'{name}' is no name for a component: lower-case letters, digits and _, such as my_method")
    if name in registry.options(group):
        raise UserError(f"{group}/{name} is there already: {registry.options(group)[name]}")
    root = checkout()
    if folder is None and (root is None or not Path.cwd().resolve().is_relative_to(root)):
        raise UserError("you are not in a source checkout of runner; name a folder of your own with --dir")
    if folder is None:
        places = [root / f"src/runner/components/{group}/{name}.py", root / f"recipes/{group}/{name}.yaml", root / f"tests/components/{group}/test_{name}.py"]
        own = ""
    else:
        places = [folder / group / f"{name}.py", folder / "recipe" / f"{name}.yaml", folder / "tests" / f"test_{name}.py"]
        own = f"\nfrom runner.config import registry\n\nregistry.add_folder({str(folder.resolve())!r})\n"
    words = {
        "group": group, "name": name, "arxiv": arxiv, "Class": "".join(w.capitalize() for w in name.split("_")),
        "title": name.replace("_", " ").capitalize(), "recipe": recipe_name(places[1]), "folder": own,
        "defaults": f"  - override /{group}: {f'[{name}]' if registry.GROUPS[group] else name}",
        "rows": f"{{{group}: [{f'[], [{name}]' if registry.GROUPS[group] else name}]}}",
    }  # fmt: skip
    if group == "softmax":
        words["defaults"] = "  - override /data: modular\n  - override /model: gpt\n" + words["defaults"]
    return {place: fill((TEMPLATES / kind).read_text(), words) for place, kind in zip(places, (f"{group}.txt", "recipe.txt", "test.txt"), strict=True)}


def fill(text: str, words: dict[str, str]) -> str:
    """Replace `{word}` for the known words only; doubled braces become single ones."""
    text = re.sub(r"\{(\w+)\}", lambda m: words.get(m[1], m[0]), text)
    return text.replace("{{", "{").replace("}}", "}")
