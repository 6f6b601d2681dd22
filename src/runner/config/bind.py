"""From a composed config (plain dicts) to a checked one. Nothing after this reads a config library."""

from dataclasses import dataclass, field
from types import MappingProxyType

from runner.config import registry
from runner.config.schema import Schema, schema
from runner.config.settings import SECTIONS
from runner.core.errors import UserError, nearest

WHAT = {  # resources, in words
    "loss": "loss of each sample",
    "outputs": "network's outputs for the batch",
    "network": "run's one network",
    "eval-weights": "weights that are evaluated",
}


@dataclass(frozen=True)
class Choice:
    """One component of a run: the option of a group with all its arguments."""

    group: str
    option: str
    args: MappingProxyType
    key: str  # where it stands in the config: `loss`, `noise.also_name`, `with.mixup`

    @property
    def name(self) -> str:
        return f"{self.group}/{self.option}"

    @property
    def schema(self) -> Schema:
        return schema(self.group, self.option)

    def changed(self) -> dict:
        """The arguments that differ from the component's defaults and may change the result."""
        return {n: v for n, v in self.args.items() if self.schema.parameters[n].matters(v)}

    def load(self):
        return registry.load(self.group, self.option)

    def build(self):
        """Call the component's `build`. Raises UserError for a ValueError of its."""
        try:
            return self.load().build(**self.args)
        except ValueError as error:
            raise UserError(f"{self.key}={self.option}: {error}") from error


@dataclass(frozen=True)
class Config:
    """A run, checked: its own settings and the chosen components of every group, in a fixed order."""

    settings: MappingProxyType
    kernels: MappingProxyType
    choices: tuple[Choice, ...] = field(default=())

    def __getitem__(self, group: str) -> tuple[Choice, ...]:
        return tuple(c for c in self.choices if c.group == group)

    def one(self, group: str) -> Choice:
        """The option that stands at the group's own key."""
        found = next((c for c in self.choices if c.key == group), None)
        if found is None:
            raise UserError(f"group '{group}' has no option; choose one of: {', '.join(registry.options(group))}")
        return found

    def plain(self) -> dict:
        """The whole config as plain data that `bind` reads back to an equal config."""
        tree: dict = {**self.settings, "kernels": dict(self.kernels)}
        for group, many in registry.GROUPS.items():
            if many:
                tree[group] = {}
        for choice in self.choices:
            node = {"name": choice.option, **choice.args}
            parent, _, leaf = choice.key.rpartition(".")
            (tree[parent] if parent else tree)[leaf] = node
        return tree


def bind(tree: dict) -> Config:
    """Check a composed config against the signatures of its components.

    Args:
        tree: `{"seed": 0, "loss": {"name": "ce"}, "with": {"mixup": {"name": "mixup", "alpha": 0.2}}, ...}`.

    Raises:
        UserError: unknown group, option or key, wrong type, value out of range; with the nearest right name.
    """
    tree = dict(tree)
    kernels = tree.pop("kernels", {}) or {}
    if not isinstance(kernels, dict):
        raise UserError(f"kernels={kernels!r} is not valid; it takes keys, such as kernels.backend=triton")
    kernels = SECTIONS["kernels"].bind(kernels, "kernels")
    choices = []
    for group, many in registry.GROUPS.items():
        node = tree.pop(group, None) or {}
        if isinstance(node, str):
            node = {"name": node}
        if not isinstance(node, dict):
            raise UserError(f"{group}={node!r} is not valid; it takes an option: {', '.join(registry.options(group))}")
        if many:
            for name in sorted(node):
                part = node[name]
                if not isinstance(part, dict) or "name" not in part:
                    raise UserError(f"'{group}.{name}' is not chosen; add it with '{group}=[{name}]'{nearest(name, registry.options(group))}")
                choices.append(_choice(group, dict(part), f"{group}.{name}"))
            continue
        if not node:
            continue
        extra = {k: v for k, v in node.items() if isinstance(v, dict) and "name" in v and group in registry.EXTENDABLE}
        choices.append(_choice(group, {k: v for k, v in node.items() if k not in extra}, group))
        choices += [_choice(group, dict(extra[k]), f"{group}.{k}") for k in sorted(extra)]
    groups = [*registry.GROUPS, "kernels"]
    for key in tree:
        if key not in SECTIONS["run"].parameters:
            raise UserError(f"unknown key '{key}'{nearest(key, [*SECTIONS['run'].parameters, *groups])}")
    settings = SECTIONS["run"].bind(tree, "")
    check_owners(choices)
    return Config(MappingProxyType(settings), MappingProxyType(kernels), tuple(choices))


def _choice(group: str, node: dict, key: str) -> Choice:
    if "name" not in node:
        raise UserError(f"'{key}' has no option chosen; choose one with '{group}=...': {', '.join(registry.options(group))}")
    option = node.pop("name")
    if not isinstance(option, str):
        raise UserError(f"'{key}' takes one option, not {option!r}")
    return Choice(group, option, MappingProxyType(schema(group, option).bind(node, key)), key)


def check_owners(choices: list[Choice]) -> None:
    """Raises UserError when two components claim one resource, or one acts on what another replaces."""
    owners: dict[str, str] = {}
    for choice in choices:
        for resource in choice.schema.card.owns:
            if resource in owners:
                raise UserError(f"{owners[resource]} and {choice.name} both own '{resource}': choose one of them")
            owners[resource] = choice.name
    for choice in choices:
        for resource in choice.schema.card.uses:
            if owners.get(resource, choice.name) != choice.name:
                raise UserError(f"{choice.name} acts on the {WHAT.get(resource, resource)}, which {owners[resource]} replaces: choose one of them")
