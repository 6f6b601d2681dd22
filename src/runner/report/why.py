"""The history of a config value: every file and override that set it, in the order in which they were laid over each other."""

from pathlib import Path

import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from runner.config import compose, recipes, registry
from runner.config.bind import Config
from runner.config.places import CONF, checkout
from runner.config.settings import SECTIONS
from runner.core.errors import UserError, nearest

History = list[tuple[str, str]]


def steps(key: str, config: Config, overrides: list[str], config_name: str) -> tuple[object, str, History]:
    """The value of a key, who reads it, and what set it: (what, where), the last one counts.

    Needs Hydra to be initialised. Raises UserError for a key that the run does not have.
    """
    plain = config.plain()
    value = _get(plain, key)
    if isinstance(value, dict) and "name" in value:
        choice = next(c for c in config.choices if c.key == key)
        return choice.option, f"{choice.name}.build, {_place(choice.schema.file, 1)}", _chosen(key, overrides)
    if isinstance(value, dict):
        raise UserError(f"'{key}' is not one value; it has: {', '.join(f'{key}.{k}' for k in value) or 'nothing'}")
    return value, _reader(key, config), _set(key, config, overrides, config_name)


def _get(tree: dict, key: str):
    node, parts = tree, key.split(".")
    for k, part in enumerate(parts):
        if not isinstance(node, dict) or part not in node:
            parent = ".".join(parts[:k])
            raise UserError(f"this run has no key '{key}'{nearest(part, [f'{parent}.{k}' if parent else k for k in (node if isinstance(node, dict) else ())])}")
        node = node[part]
    return node


def _place(file: Path, line: int | None) -> str:
    root = checkout()
    shown = file.relative_to(root) if root and file.is_relative_to(root) else file
    return f"{shown}:{line}" if line else str(shown)


def _reader(key: str, config: Config) -> str:
    parent, _, name = key.rpartition(".")
    choice = next((c for c in config.choices if c.key == parent), None)
    if choice is None:
        return "the run itself" if not parent else "the kernels"
    if name == "name":
        return "the choice of the component"
    return f"{choice.name}.build({name}), {_place(choice.schema.file, choice.schema.parameters[name].line)}"


def _set(key: str, config: Config, overrides: list[str], config_name: str) -> History:
    history: History = []
    parent, _, name = key.rpartition(".")
    choice = next((c for c in config.choices if c.key == parent), None)
    known = choice.schema if choice else SECTIONS["kernels" if parent else "run"]
    if name in known.parameters:
        parameter = known.parameters[name]
        history.append((f"{parameter.default!r} is the default", _place(known.file, parameter.line)))
    with compose.at_scale(overrides):
        loader = GlobalHydra.instance().config_loader()
        layers = loader.compute_defaults_list(config_name, overrides, RunMode.RUN).defaults
    scale = config.settings["scale"]
    for layer in layers:
        path = layer.config_path
        if path.startswith("recipe/"):
            recipe = path.removeprefix("recipe/")
            history += _in_yaml(recipes.names()[recipe], key.split("."), f"recipe {recipe}")
            history += _in_yaml(CONF / "scale" / f"{scale}.yaml", key.split("."), f"scale {scale}")
            history += _in_yaml(recipes.names()[recipe], ["scales", scale, *key.split(".")], f"recipe {recipe} at scale {scale}")
        else:
            file = next((f for folder in (CONF, *registry.folders()[1:]) if (f := folder / f"{path}.yaml").is_file()), CONF)
            package = [p for p in (layer.package or "").split(".") if p]
            parts = key.split(".")
            if parts[: len(package)] == package:
                history += _in_yaml(file, parts[len(package) :], path)
    history += [(o, "command line") for o in overrides if o.lstrip("+").partition("=")[0] == key]
    return history


def _in_yaml(file: Path, parts: list[str], said: str) -> History:
    """What a YAML file sets at a path, with its line."""
    if not file.is_file():
        return []
    node = yaml.compose(file.read_text())
    for part in parts:
        pairs = {k.value: (k, v) for k, v in node.value} if isinstance(node, yaml.MappingNode) else {}
        if part not in pairs:
            return []
        mark, node = pairs[part]
    shown = node.value if isinstance(node, yaml.ScalarNode) else recipes.parse(yaml.serialize(node))
    return [(f"{shown} in {said}", _place(file, mark.start_mark.line + 1))]


def _chosen(key: str, overrides: list[str]) -> History:
    """Who chose the option of a group: lines of the root, of the recipe, and overrides."""
    group = key.split(".")[0]
    history: History = []
    names = [n for o in compose.parse(overrides) if o.key_or_group == "recipe" for n in (o.value() if isinstance(o.value(), list) else [o.value()])]
    for file in [CONF / "config.yaml", *(recipes.names()[n] for n in names)]:
        for number, line in enumerate(file.read_text().splitlines(), 1):
            text = line.strip().lstrip("-[{ ").removeprefix("override ").lstrip("/")
            if text.startswith((f"{group}:", f"{group}/also")):
                history.append((line.strip(), _place(file, number)))
    if registry.GROUPS.get(group) is None:
        raise UserError(f"no group '{group}'{nearest(group, registry.GROUPS)}")
    return history + [(o, "command line") for o in overrides if o.lstrip("+~").partition("=")[0].split("@")[0].split("/")[0] == group]
