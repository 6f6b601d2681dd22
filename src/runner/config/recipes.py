"""Recipes: a paper, or a tour of a family, as data. One YAML file holds every scale."""

import functools
import re
from pathlib import Path

import yaml

from runner.config import registry
from runner.config.places import CONF, RECIPES
from runner.config.schema import schema
from runner.core.errors import UserError, nearest

# what a recipe says about itself and its results; the rest of it is config
ABOUT = ("paper", "tables", "claims", "when", "notes", "scales", "search")
KINDS = {"paper": dict, "claims": list, "scales": dict, "search": dict, "defaults": list}  # of its parts, where they are there
WORDS = {dict: "keys with their values", list: "a list"}


class _Loader(yaml.SafeLoader):
    """YAML with the floats that people write (1e-3), as OmegaConf reads them."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:\d[\d_]*\.[\d_]*(?:[eE][-+]?\d+)?|\d[\d_]*[eE][-+]?\d+|\.\d[\d_]*(?:[eE][-+]?\d+)?|\.inf|\.nan)\Z"),
    list("-+0123456789."),
)


def parse(text: str):
    return yaml.load(text, _Loader)


def folders() -> list[Path]:
    return [RECIPES, *(f / "recipe" for f in registry.folders()[1:])]


def behind(group: str, name: str) -> str | None:
    """The option of a name: itself, or what a preset in `conf/` or in a user's own folder is made from; None if there is neither."""
    if name in registry.options(group):
        return name
    file = next((f for folder in (CONF, *registry.folders()[1:]) if (f := folder / group / f"{name}.yaml").is_file()), None)
    entries = ((parse(file.read_text()) or {}).get("defaults") or []) if file else []
    return next((found for e in entries if isinstance(e, str) and e not in ("_self_", name) and (found := behind(group, e))), None)


@functools.cache
def names() -> dict[str, Path]:
    """All recipes: name such as `noisy_labels` or `noise/elr` -> file."""
    found: dict[str, Path] = {}
    for folder in folders():
        for file in sorted(folder.rglob("*.yaml")):
            found.setdefault(file.relative_to(folder).with_suffix("").as_posix(), file)
    return found


@functools.cache
def read(name: str) -> dict:
    """The whole recipe as it is written. Raises UserError."""
    if name not in names():
        raise UserError(f"no recipe '{name}'{nearest(name, names())}")
    try:
        content = parse(names()[name].read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"recipe {names()[name]} is not valid YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict):
        raise UserError(f"recipe {names()[name]} is empty")
    _check(f"recipe {name}", content)
    for scale, own in (content.get("scales") or {}).items():
        _check(f"recipe {name}, scale {scale}", {} if own is None else own)
    return content


def _check(where: str, part) -> None:
    """Raises UserError for parts of another kind than those that read them expect."""
    if not isinstance(part, dict):
        raise UserError(f"{where} is {part!r}; it takes {WORDS[dict]}")
    for key, kind in KINDS.items():
        if not isinstance(part.get(key), kind | None):
            raise UserError(f"{where}: {key}={part[key]!r} is not valid; it takes {WORDS[kind]}")
    for entry in part.get("defaults") or []:
        if not isinstance(entry, str | dict):
            raise UserError(f"{where}: defaults hold options, such as override /loss: gce; not {entry!r}")


def at_scale(name: str, scale: str, chosen: dict[str, list[str]] | None = None) -> dict:
    """The config part of a recipe at a scale: the recipe, then the scale's general settings, then the recipe's own for that scale.

    Args:
        chosen: group -> options that the user chose instead of the recipe's; values that only the recipe's options take are left out.
    """
    recipe = read(name)
    own = (recipe.get("scales") or {}).get(scale) or {}
    general = parse((CONF / "scale" / f"{scale}.yaml").read_text()) if (CONF / "scale" / f"{scale}.yaml").is_file() else {}
    base = {k: v for k, v in recipe.items() if k not in ABOUT}
    replaced = {k.removeprefix("override /"): v for entry in own.get("defaults") or [] if isinstance(entry, dict) for k, v in entry.items()}
    for group, option in replaced.items():
        options = option if isinstance(option, list) else [option]
        if group not in (chosen or {}) and isinstance(base.get(group), dict) and all(o in registry.options(group) for o in options):
            base[group] = _taken(group, options, base[group])  # what only the replaced options take is left out
    config = functools.reduce(merge, [{k: v for k, v in part.items() if k not in ("defaults", "tables")} for part in (base, general, own)])
    entries: dict[str, object] = {}
    for entry in [*(base.get("defaults") or []), *(own.get("defaults") or [])]:
        entries.update(entry if isinstance(entry, dict) else {entry: None})
    ordered = sorted(entries, key=lambda k: k.startswith("override "))  # Hydra wants overrides last
    for group, options in (chosen or {}).items():
        if isinstance(config.get(group), dict) and entries.get(f"override /{group}") != (options if registry.GROUPS[group] else options[0]):
            config[group] = _taken(group, options, config[group])
    return {"defaults": ["_self_", *({k: entries[k]} if entries[k] is not None else k for k in ordered)], **config}


def _taken(group: str, options: list[str], values: dict) -> dict:
    """The values that these options of a group take."""
    if registry.GROUPS[group]:
        return {k: v for k, v in values.items() if k in options}
    known = {p for o in options if o in registry.options(group) for p in schema(group, o).parameters}
    return {k: v for k, v in values.items() if k in known or isinstance(v, dict)}


def merge(below: dict, above: dict) -> dict:
    """`above` laid over `below`, dicts merged all the way down."""
    both = {k: merge(below[k], v) if isinstance(v, dict) and isinstance(below.get(k), dict) else v for k, v in above.items()}
    return {**below, **both}


def using(group: str, option: str) -> list[str]:
    """The recipes that name an option of a group in their defaults, tables or `paper.uses`."""
    wanted = f"{group}/{option}"
    found = []
    for name in names():
        recipe = read(name)
        entries = [*(recipe.get("defaults") or []), *(e for s in (recipe.get("scales") or {}).values() for e in (s or {}).get("defaults") or [])]
        chosen = [(k.removeprefix("override ").split("@")[0].strip("/"), v) for e in entries if isinstance(e, dict) for k, v in e.items()]
        picked = {f"{g.removesuffix('/also')}/{o}" for g, v in chosen for o in (v if isinstance(v, list) else [v])}
        if wanted in picked or wanted in ((recipe.get("paper") or {}).get("uses") or []) or _in_tables(recipe, group, option):
            found.append(name)
    return found


def _in_tables(recipe: dict, group: str, option: str) -> bool:
    """Whether a table names the option: rows and columns are `{key: [values]}` or `{name: {key: value}}`."""
    for table in (recipe.get("tables") or {}).values():
        for axis in ("rows", "cols"):
            for key, values in (table.get(axis) or {}).items():
                pairs = values.items() if isinstance(values, dict) else [(key, v) for v in (values if isinstance(values, list) else [values])]
                if any(k.partition("/")[0].lstrip("+") == group and option in (v if isinstance(v, list) else [v]) for k, v in pairs):
                    return True
    return False
