"""Composition: a list of overrides in Hydra's grammar becomes a plain config. What Hydra refuses is said in one line."""

import re
import shlex
from contextlib import contextmanager

from hydra import compose as hydra_compose
from hydra import initialize
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType, ValueType
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from runner.config import recipes, registry
from runner.config.source import CHOSEN, SCALE, register
from runner.core.errors import UserError, nearest


@contextmanager
def composer(config_name: str = "config"):
    """Yields `compose(overrides) -> dict`. Folders that the registry knows (`--config-dir`) are searched too."""
    register()
    GlobalHydra.instance().clear()
    with initialize(None, version_base="1.3"):
        yield Composer(config_name)


class Composer:
    """`composer(overrides) -> plain data`, interpolations resolved. Raises UserError.

    What only sets plain values is laid over the composition of the rest, which is made once: a sweep over rates and seeds composes once.
    """

    def __init__(self, config_name: str):
        self.config_name = config_name
        self.parsed: dict[str, Override] = {}
        self.bases: dict[tuple[str, ...], dict | None] = {}

    def __call__(self, overrides: list[str]) -> dict:
        if new := [o for o in overrides if o not in self.parsed]:
            self.parsed.update(zip(new, parse(new), strict=True))
        values = {o: self.parsed[o] for o in overrides if _sets_a_value(self.parsed[o])}
        choices = tuple(o for o in overrides if o not in values)
        if choices not in self.bases:
            self.bases[choices] = self._base(list(choices)) if values else None
        base = self.bases[choices]
        if base is None:
            return compose(overrides, self.config_name)
        for override in values.values():
            base = _laid_over(base, override.key_or_group.split("."), override.value())
            if base is None:
                return compose(overrides, self.config_name)  # which says what is wrong with it
        return base

    def _base(self, choices: list[str]) -> dict | None:
        """None where values depend on each other."""
        with at_scale(choices), explained():
            config = OmegaConf.to_container(hydra_compose(self.config_name, choices))
        return None if "${" in str(config) else config


def _sets_a_value(override: Override) -> bool:
    if override.type != OverrideType.CHANGE or override.is_sweep_override() or is_group(override) or override.package:
        return False
    return not isinstance(override.value(), dict) and "${" not in override.input_line


def _laid_over(tree: dict, path: list[str], value) -> dict | None:
    """The tree with another value at a path that is there, sharing the rest; None if it is not, or holds more than a value."""
    key, *rest = path
    if key not in tree or isinstance(tree[key], dict) != bool(rest):
        return None
    below = _laid_over(tree[key], rest, value) if rest else value
    return None if rest and below is None else {**tree, key: below}


def compose(overrides: list[str], config_name: str = "config") -> dict:
    """The composed config as plain data, interpolations resolved. Needs Hydra to be initialised. Raises UserError."""
    with at_scale(overrides), explained():
        config = hydra_compose(config_name, overrides)
        return OmegaConf.to_container(config, resolve=True)


@contextmanager
def at_scale(overrides: list[str]):
    """Recipes are read at the scale, and without the options, that the overrides replace."""
    asked = dict(o.split("=", 1) for o in overrides if "=" in o)
    scale = _names(asked.get("scale", "mini"))[-1]  # `[paper]` is a scale to Hydra too
    tokens = SCALE.set(scale), CHOSEN.set({g: _names(asked[g]) for g in registry.GROUPS if g in asked})
    try:
        yield
    finally:
        SCALE.reset(tokens[0])
        CHOSEN.reset(tokens[1])


def _names(value: str) -> list[str]:
    return [n.strip().strip("'\"") for n in value.strip("[]").split(",")]


def rewrite(arguments: list[str]) -> list[str]:
    """Shorthands in Hydra's own words: `recipe=x`, `with+=mixup`, `with-=mixup`, and several options of a group that usually has one."""
    found: list[str] = []
    for argument in arguments:
        key, sign, value = argument.partition("=")
        group = key.rstrip("+-")
        names = _names(value) if sign else []
        if key == "recipe" and sign:
            found.append(f"+{argument}")
        elif sign and key.endswith(("+", "-")) and (registry.GROUPS.get(group) or group in registry.EXTENDABLE):
            also = group if registry.GROUPS[group] else f"{group}/also"
            found += [f"+{also}@{group}.{n}={n}" if key.endswith("+") else f"~{group}.{n}" for n in names]
        elif key in registry.EXTENDABLE and re.fullmatch(r"\[[\w\s,]+\]", value):
            found += [f"{key}={names[0]}", *(f"+{key}/also@{key}.{n}={n}" for n in names[1:])]
        elif registry.GROUPS.get(key) is False and len(names) > 1 and value.startswith("["):
            raise UserError(f"{key} takes one option, not {value}")
        else:
            found.append(argument)
    return found


def parse(overrides: list[str]) -> list[Override]:
    """Overrides in Hydra's grammar, parsed. Raises UserError."""
    with explained():
        found = OverridesParser.create().parse_overrides(overrides)
    for override in filter(is_group, found):
        listed = override.value() if isinstance(override.value(), list) else []
        if not all(isinstance(name, str) for name in listed):  # Hydra trips over them
            raise UserError(f"'{override.input_line}' is not valid; a list of options holds their names alone, such as [a,b]")
    return found


@contextmanager
def explained():
    """Hydra's and OmegaConf's errors as one line with the nearest right name."""
    try:
        yield
    except MissingConfigException as error:
        raise UserError(_missing(error)) from error
    except OverrideParseException as error:
        hint = quoted(error.override)
        raise UserError(f"cannot read '{error.override}'" + (f"; {hint}" if hint else f": {_first(error)}")) from error
    except ConfigCompositionException as error:
        raise UserError(_refused(error)) from error
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise UserError(_first(error)) from error


def quoted(override: str | None) -> str:
    """How to write a value that Hydra's grammar takes in quotes only, such as a path; nothing for lists, functions and what has quotes."""
    key, _, value = (override or "").partition("=")
    if not re.fullmatch(r"\+{0,2}[\w./@]+", key) or re.match(r"\w+\(|[\[{\"']|[\w.-]*$", value) or '"' in value:
        return ""
    written = f'{key}="{value}"'
    return f"quote it: {shlex.quote(written)}"


def _first(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _missing(error: MissingConfigException) -> str:
    path = (error.missing_cfg_file or "").strip("/")
    group, _, option = path.rpartition("/")
    if path.startswith("recipe/"):
        name = path.removeprefix("recipe/")
        return f"no recipe '{name}'{nearest(name, recipes.names())}"
    group = group.removesuffix("/also")
    if group:
        known = {*(error.options or []), *registry.options(group)}
        return f"no option '{option}' in group '{group}'{nearest(option, known)}"
    if path in registry.GROUPS:
        return f"'{path}=' chooses nothing; options: {', '.join(registry.options(path))}"
    return f"no config '{path}'"


def _refused(error: ConfigCompositionException) -> str:
    cause = error.__cause__
    key = getattr(cause, "full_key", None)
    if key and cause.parent_node is not None and hasattr(cause.parent_node, "keys"):
        parent, _, leaf = str(key).rpartition(".")
        known = [k for k in cause.parent_node if k not in ("name", "hydra")]
        asked = re.search(r"Could not override '([^']+)'", str(error))
        first, *rest = (asked.group(1) if asked else str(key)).split(".")
        if registry.GROUPS.get(first) and rest and (key == first or parent == first):
            hint = "" if rest[0] in registry.options(first) else nearest(rest[0], registry.options(first))
            return f"'{first}.{rest[0]}' is not chosen; add it with '{first}+={rest[0]}'{hint}"
        if first in registry.GROUPS and not rest and parent == first:  # the value was a dict
            return f"{first}={{...}} sets no '{leaf}': choose an option by its name and set its keys one by one, {first}=OPTION {first}.{leaf}=VALUE"
        option = cause.parent_node.get("name") if parent in registry.GROUPS else None
        return f"unknown key '{key}'" + (nearest(leaf, known) if known else f"; '{option}' has no keys" if option else "")
    text = _first(error)
    if found := re.search(r"(?:Could not override|Could not append to config\.).*?'([^']+)'", text):
        group = found.group(1).split("=")[0].lstrip("+~")
        if "No match in the defaults list" in str(error):
            return f"unknown group '{group}'{nearest(group, [*registry.GROUPS, 'recipe', 'scale'])}"
    return text


def is_sweep(override: Override) -> bool:
    return override.is_sweep_override()


def is_group(override: Override) -> bool:
    """Whether an override chooses an option (which needs a new composition) rather than setting a value."""
    group = override.key_or_group
    return group.split("/")[0] in (*registry.GROUPS, "recipe", "scale", "settings") and "." not in group and override.type != OverrideType.DEL


__all__ = ["ValueType", "at_scale", "compose", "composer", "explained", "is_group", "is_sweep", "parse", "quoted", "rewrite"]
