"""What every component must keep, checked on a small real run. `tests/contracts` holds all components against all contracts.

from runner import contracts
contracts.determinism("loss", "gce")        # raises AssertionError, or Skip where a contract does not apply
"""

import contextlib
import copy
import difflib
import functools
import inspect
import io
import os
from collections.abc import Callable

import torch

from runner.config import registry
from runner.config.bind import bind
from runner.config.schema import schema
from runner.core import events, snapshot
from runner.core.errors import UserError
from runner.core.loop import Loop
from runner.execution.assemble import assemble

BASE = {
    "loss": "ce", "learner": "supervised", "optimizer": "sgd", "schedule": "constant", "noise": "none", "sparsity": "none",
    "softmax": "softmax", "launcher": "local", "logger": "none",
}  # fmt: skip
LENGTH = 42  # steps: two epochs of the digits left for training at batch size 64
TASKS = {
    "classification": {"data": {"name": "digits", "val": 0.1}, "model": {"name": "mlp", "width": 32}, "eval": ("accuracy", "loss")},
    "images": {"data": {"name": "digits", "flat": False}, "model": {"name": "cnn", "width": 4}, "eval": ("accuracy", "loss")},
    "tokens": {
        "data": {"name": "sectioned_notes", "notes": 112, "heading_rate": 1.0, "test_notes": 20}, "model": {"name": "text_cnn", "width": 8, "filters": 4},
        "eval": ("accuracy", "loss"),
    },
    "regression": {"data": {"name": "diabetes"}, "model": {"name": "mlp", "width": 32}, "loss": "mse", "eval": ("loss",)},
    "language": {
        "data": {"name": "modular", "modulus": 13}, "model": {"name": "gpt", "width": 16, "depth": 1, "heads": 2}, "eval": ("accuracy", "loss"),
    },
    "segmentation": {
        "data": {"name": "ellipses", "size": 16, "train_size": 100, "test_size": 20}, "model": {"name": "unet", "width": 4, "depth": 1},
        "eval": ("accuracy", "loss"),
    },
    "detection": {
        "data": {"name": "scenes", "size": 32, "train_size": 100, "test_size": 20, "val_size": 20}, "model": {"name": "region_cnn", "width": 4, "hidden": 8},
        "eval": ("accuracy", "loss"),
    },
    "boxes": {
        "data": {"name": "scenes", "size": 64, "train_size": 12, "test_size": 2, "val_size": 0, "boxes": True},
        "model": {"name": "faster_rcnn", "arch": "resnet18", "hidden": 8, "proposals": 20}, "learner": {"name": "detector", "regions": 16, "anchors": 16},
        "optimizer": {"name": "sgd", "lr": 0.003}, "trainer": {"duration": "12it", "batch_size": 2}, "eval": ("detection",),
    },
}  # fmt: skip
DRAWN = ("loss", "learner", "with", "sparsity", "noise", "optimizer", "schedule", "softmax", "model", "data", "eval", "probe", "trainer")
MULTI = {group for group, many in registry.GROUPS.items() if many}


class Skip(Exception):
    """The contract does not apply; the message says why."""


def components() -> list[tuple[str, str]]:
    """All (group, option)."""
    return [(group, option) for group in registry.GROUPS for option in registry.options(group)]


def task(group: str, option: str) -> str:
    declared = schema(group, option).card
    if group == "softmax":
        return "language"
    if declared.images:
        return "images"
    if declared.tokens:
        return "tokens"
    return declared.tasks[0] if declared.tasks else "classification"


def config(group: str, option: str, args: dict | None = None, **extra) -> dict:
    """The plain config of a small run that uses the component with the given arguments."""
    if any(p.required for p in schema(group, option).parameters.values()) and not args:
        raise Skip(f"{group}/{option} has options without a default; its own test runs it")
    setting = TASKS[task(group, option)]
    trainer = {"name": "standard", "duration": f"{LENGTH}it", "probe_every": "20it", **setting.get("trainer", {}), **extra}
    tree = {**BASE, **{k: copy.deepcopy(v) for k, v in setting.items()}, "trainer": trainer, "eval": {k: {"name": k} for k in setting["eval"]}}
    node = {"name": option, **(args or {})}
    if group in MULTI:
        tree.setdefault(group, {})[option] = node
    elif group == "trainer":
        tree[group] = {**trainer, "name": option}
    else:
        tree[group] = node
        if group == "model" and option not in ("mlp",):
            tree["data"] = _data_for(option, tree["data"])
    return tree


def _data_for(option: str, usual: dict) -> dict:
    """The digits as flat rows or as images, as the model takes them."""
    return {"name": "digits", "flat": False} if schema("model", option).card.images else usual


def start(tree: dict, report=lambda row: None):
    """An assembled loop; Skip where its data is not on this machine."""
    torch.set_num_threads(1)
    try:
        return assemble({**tree, "device": os.environ.get("RUNNER_TEST_DEVICE", "cpu")}, report)
    except UserError as error:
        if "looked" in str(error):
            raise Skip(str(error)) from error
        raise


def trace(tree: dict) -> tuple[list, dict]:
    """All rows of metrics and the final weights of a run."""
    rows: list = []
    loop = start(tree, rows.append)
    loop.run()
    return rows, loop.state.weights()


def same(one: tuple[list, dict], other: tuple[list, dict], close: bool = False, only: set | None = None) -> None:
    """Equal bit for bit, or close; metrics that only one of them has do not count when `only` names those that do."""
    (rows, weights), (more_rows, more_weights) = one, other
    assert len(rows) == len(more_rows)
    for a, b in zip(rows, more_rows, strict=True):
        for key in only or set(a) | set(b):
            x, y = torch.tensor(a[key], dtype=torch.double), torch.tensor(b[key], dtype=torch.double)
            assert torch.allclose(x, y, rtol=1e-3, atol=1e-3, equal_nan=True) if close else torch.equal(x.nan_to_num(), y.nan_to_num()), f"{key}: {x} != {y}"
    assert weights.keys() == more_weights.keys()
    for name, w in weights.items():
        v = more_weights[name]
        assert torch.allclose(w.double(), v.double(), rtol=1e-3, atol=1e-4) if close else torch.equal(w, v), f"weights {name} differ"


def help_for_every_option(group: str, option: str) -> None:
    for parameter in schema(group, option).parameters.values():
        assert parameter.kinds or parameter.choices, f"{parameter.name} has no type"
        assert parameter.help, f"{parameter.name} has no help in Args"
    assert schema(group, option).summary, "no docstring"


def defaults_are_valid(group: str, option: str) -> None:
    known = schema(group, option)
    known.bind({n: v for n, v in known.defaults().items() if v != "???"} | {p.name: _any(p) for p in known.parameters.values() if p.required})


def _any(parameter):
    return {"str": "x", "int": 1, "float": 0.5, "list": [1]}[parameter.kinds[0].partition("[")[0]]


def rungs(group: str, option: str) -> None:
    """Acts only at known events; declares its rung where there is a ladder, and that it owns the phases where it plans them."""
    if group not in ("with", "sparsity", "learner"):
        raise Skip("does not act at events")
    known = schema(group, option)
    thing = next(c for c in bind(config(group, option)).choices if (c.group, c.option) == (group, option)).build()
    if thing is None:
        raise Skip("stands for no component")
    for event in events.RUNGS:
        if hasattr(thing, event):
            events.Component(known.option, thing, known.card).rung(event)
    assert set(known.card.rung) <= {e for e in events.RUNGS if hasattr(thing, e)}, "a rung for an event at which it does not act"
    assert hasattr(thing, "phases") == ("phases" in known.card.owns)
    public = {n for n, _ in inspect.getmembers(type(thing), inspect.isfunction) if not n.startswith("_")}
    usual = {*events.EVENTS, "phases", "compute", "predict"}
    for name in public - usual:
        assert not difflib.get_close_matches(name, usual, 1, 0.85), f"method {name} looks like a misspelt event"


def determinism(group: str, option: str) -> None:
    """Two runs are equal bit for bit."""
    _runs(group)
    tree = config(group, option)
    same(trace(tree), trace(tree))


def interrupted(start: Callable[[], Loop], *stops: int) -> Loop:
    """A training that stops after each of these steps, is saved as plain data, and goes on in another loop; the last one, at its end."""

    class Halt(Exception):
        pass

    def halt(stop, loop):
        if loop.state.step == stop:
            raise Halt

    file = None
    for stop in (*stops, None):
        loop = start()
        if file:
            file.seek(0)
            snapshot.load(loop, torch.load(file, weights_only=True))
        with contextlib.suppress(Halt):
            loop.run(functools.partial(halt, stop))
        assert stop in (None, loop.state.step), f"the run ended before step {stop}"
        torch.save(snapshot.save(loop), file := io.BytesIO())
    return loop


def resume(group: str, option: str) -> None:
    """Stopped in the middle of the first epoch and of the second, where later phases are, saved as plain data and loaded by another loop,
    it ends like the straight run.
    """
    _runs(group)
    tree = config(group, option)
    straight = trace(tree)

    rows, length = [], int(tree["trainer"]["duration"].removesuffix("it"))
    loop = interrupted(lambda: start(tree, rows.append), length // 2 - 2, length * 3 // 4)
    same(straight, (rows, loop.state.weights()))


def off_switch(group: str, option: str) -> None:
    """At strength 0 the run equals the run without the component."""
    declared = schema(group, option).card
    if declared.off is None:
        raise Skip("the card declares no off-switch")
    with_it = trace(config(group, option, declared.off))
    tree = config(group, option, declared.off)
    if group in MULTI:
        del tree[group][option]
    else:
        tree[group] = BASE[group]
    without = trace(tree)
    same(with_it, without, declared.close, only=set(without[0][0]))


def leaves_labels_alone(group: str, option: str) -> None:
    """Nobody writes `batch.y`."""
    if group not in ("with", "learner", "sparsity", "loss"):
        raise Skip("sees no batch")
    loop = start(config(group, option))
    labels = loop.state.data.train.y.clone()

    def look(loop):
        if (batch := loop.state.batch) is not None:
            assert torch.equal(batch.y, labels[batch.i]), "batch.y was written"

    loop.run(look)
    assert torch.equal(loop.state.data.train.y, labels), "the labels of the split were written"


def per_sample(group: str, option: str) -> None:
    """What learners and `losses` hooks return is one number a sample, and a penalty one number."""
    if group not in ("with", "learner", "sparsity", "loss"):
        raise Skip("returns no losses")
    loop = start(config(group, option, duration="3it"))
    penalties, add = loop.on.names["penalty"], loop.trail.add

    def look(name, value, rows):
        assert value.shape in ([(), rows.shape] if name in penalties else [rows.shape]), f"{name}: {tuple(value.shape)}"
        add(name, value, rows)

    loop.trail.add = look
    loop.run()


def batch_of_one(group: str, option: str) -> None:
    """A batch of one sample trains and stays finite."""
    if group not in ("with", "learner", "sparsity", "loss", "optimizer"):
        raise Skip("does not see batches")
    _, weights = trace(config(group, option, batch_size=1, duration="5it"))
    assert all(torch.isfinite(w.float()).all() for w in weights.values())


def targets(group: str, option: str) -> None:
    """A loss takes class indices and probabilities alike, any leading dimensions, and returns one value a sample."""
    if group != "loss" or task(group, option) == "regression":
        raise Skip("no classification loss")
    loss = next(c for c in bind(config(group, option)).choices if c.group == "loss").build()
    generator = torch.Generator().manual_seed(0)
    for shape in ((5,), (1,), (2, 3)):
        logits = torch.randn(*shape, 7, generator=generator, requires_grad=True)
        y = torch.randint(7, shape, generator=generator)
        hard, soft = loss(logits, y), loss(logits, torch.nn.functional.one_hot(y, 7).float())
        assert hard.shape == soft.shape == shape
        assert torch.allclose(hard, soft, atol=1e-5), "one-hot probabilities differ from class indices"
        mixed = loss(logits, torch.softmax(torch.randn(*shape, 7, generator=generator), -1))
        assert mixed.shape == shape
        (hard.sum() + mixed.sum()).backward()
        assert torch.isfinite(logits.grad).all()


def forward_passes(group: str, option: str) -> None:
    """A step costs no more forward passes than the card says."""
    if group not in ("with", "learner", "sparsity"):
        raise Skip("adds no passes")
    loop = start(config(group, option))
    calls = [0]
    loop.state.model.register_forward_hook(lambda *_: calls.__setitem__(0, calls[0] + 1) if loop.state.model.training else None)
    loop.run()
    bound = schema(group, option).card.cost * max(1, loop.state.step)
    assert calls[0] <= bound, f"{calls[0]} forward passes in {loop.state.step} steps; the card says {schema(group, option).card.cost}"


def used_by_a_recipe(group: str, option: str) -> None:
    from runner.config import recipes
    from runner.config.places import CONF

    if group in ("trainer", "logger", "launcher") or option == "none":
        raise Skip("not a method")
    if option in (CONF / "config.yaml").read_text().split():
        raise Skip("the root config uses it")
    assert recipes.using(group, option), f"no recipe uses {group}/{option}"


def _runs(group: str) -> None:
    if group not in DRAWN:
        raise Skip("not part of a run's result")


CONTRACTS = [
    help_for_every_option, defaults_are_valid, rungs, determinism, resume, off_switch, leaves_labels_alone, per_sample, batch_of_one, targets,
    forward_passes, used_by_a_recipe,
]  # fmt: skip
