"""Which components act when in a step, in which order and why, and what does not go together. Nothing is trained."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

from runner.config import registry
from runner.config.bind import Choice, Config, bind, check_owners
from runner.config.schema import schema
from runner.core.errors import UserError, nearest
from runner.core.events import EVENTS, RUNGS, Component, order
from runner.report.runs import nodes

# the events in the order in which they come, with the learner's own work and the plan of phases among them
TIMES = {
    "setup": "once, at the start",
    "phases": "once, after setup",
    "epoch_start": "each epoch",
    "batch": "before the forward pass",
    "compute": "forward pass, losses",
    "losses": "on each sample's loss",
    "penalty": "added to the mean loss",
    "grads": "after the backward pass",
    "step": "around grads and update, inside out",
    "step_end": "after the update",
    "epoch_end": "each epoch",
    "eval_enter": "before an evaluation",
    "eval_exit": "after it, in reverse order",
}
ACTING = ("learner", "with", "sparsity")
ELSEWHERE = {
    "loss": "the learner calls it in compute", "optimizer": "it moves the weights, inside of all that acts at step",
    "schedule": "it sets the learning rate before each step", "eval": "it measures at every evaluation", "probe": "it measures now and then",
}  # fmt: skip


@dataclass(frozen=True)
class Act:
    """A component at an event, in its turn, and what decides the turn."""

    event: str
    component: str
    why: str


def find(name: str) -> tuple[str, str]:
    """Group and option of `mixup` or `with/mixup`. Raises UserError with the nearest name, or the groups of an ambiguous one."""
    group, slash, option = name.rpartition("/")
    if slash:
        registry.locate(group, option)
        return group, option
    groups = [g for g in registry.GROUPS if name in registry.options(g)]
    if not groups:
        raise UserError(f"no component '{name}'{nearest(name, {o for g in registry.GROUPS for o in registry.options(g)})}")
    if len(groups) > 1:
        raise UserError(f"'{name}' is in several groups; say which: {', '.join(f'{g}/{name}' for g in groups)}")
    return groups[0], name


def overrides(named: list[tuple[str, str]]) -> list[str]:
    """The overrides that choose components."""
    found = []
    for group in dict.fromkeys(group for group, _ in named):
        options = [o for g, o in named if g == group]
        if registry.GROUPS[group]:
            found += [f"{group}+={o}" for o in options]
        elif group in registry.EXTENDABLE and len(options) > 1:
            found.append(f"{group}=[{','.join(options)}]")
        else:
            found += [f"{group}={o}" for o in options]
    return found


def unjudged(tree: dict) -> Config:
    """A composed config whose components are each checked, but not whether they go together. Raises UserError."""
    rest = bind({k: v for k, v in tree.items() if k not in registry.GROUPS})
    parts = [Choice(group, option, schema(group, option).bind(arguments, key), key) for group, key, option, arguments in nodes(tree)]
    return replace(rest, choices=tuple(parts))


def components(config: Config) -> list[Component]:
    """Those that may act at events, built; the clipping of gradients where the trainer does it."""
    from runner.core.gradients import clipping
    from runner.execution.assemble import component

    found = [component(c) for c in config.choices if c.group in ACTING]
    return [c for c in found if c.object is not None] + clipping(config.one("trainer").build())


def acts(built: list[Component]) -> list[Act]:
    """Who acts at which event, in the order in which they do."""
    found = []
    for event in TIMES:
        acting = order(built, event) if event in EVENTS else [c for c in built if hasattr(c.object, event)]
        found += [Act(event, c.name, _why(c, acting, event)) for c in acting]
    return found


def _why(component: Component, acting: list[Component], event: str) -> str:
    ladder = RUNGS.get(event, ())
    reason = f"rung {ladder[component.rung(event)]} of {' < '.join(ladder)}" if ladder else ""
    beside = [c.name for c in acting if c is not component and c.rung(event) == component.rung(event)]
    if not beside:
        return reason
    return f"{reason}, as {', '.join(beside)}: order is by name" if ladder else "order is by name"


def conflicts(config: Config, named: list[tuple[str, str]]) -> list[str]:
    """What excludes each other: two options of a group that takes one, two owners of a resource."""
    found = []
    for group, option in named:
        taken = [c.option for c in config[group]]
        if taken and option not in taken:
            found.append(f"group '{group}' takes one option: {option} and {', '.join(taken)} exclude each other")
    for pair in itertools.combinations(config.choices, 2):
        found += _said(check_owners, list(pair))
    return found


def misfits(config: Config) -> list[str]:
    """What is for another kind of task or input than the run's data. Raises UserError where the data is not on this machine."""
    from runner.execution.assemble import check_fit

    data = config.one("data")
    info = data.build().info
    return [line for c in config.choices if c is not data for line in _said(check_fit, replace(config, choices=(data, c)), info)]


def _said(check: Callable, *arguments) -> list[str]:
    """What a check says against it."""
    try:
        check(*arguments)
    except UserError as error:
        return [str(error)]
    return []
