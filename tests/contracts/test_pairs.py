"""Methods compose: every hook with every loss, every noise and every other hook trains two epochs; the order in which hooks are named changes nothing."""

import functools
import itertools
import math

import pytest

from runner import contracts
from runner.config import registry
from runner.config.schema import schema
from runner.core.errors import UserError

TWO_EPOCHS = {"duration": "2ep", "batch_size": 256}


def fits(group: str, option: str) -> bool:
    """Whether it is for classification of rows of features, and needs nothing to be told."""
    known = schema(group, option)
    return not known.card.images and "classification" in (known.card.tasks or ("classification",)) and not any(p.required for p in known.parameters.values())


def options(group: str) -> list[str]:
    return [option for option in registry.options(group) if option != "none" and fits(group, option)]


HOOKS = options("with")


def tree(hooks, **chosen) -> dict:
    return {**contracts.config("loss", "ce", **TWO_EPOCHS), "noise": "symmetric", "with": {h: {"name": h} for h in hooks}, **chosen}


@functools.cache
def refused(hook: str) -> str:
    """Why it does not train alone; only what says by its own name that it needs other data may be refused."""
    try:
        contracts.start(tree([hook]))
    except UserError as error:
        if f"with/{hook}" not in str(error):
            raise
        return str(error)
    return ""


def alone(hook: str) -> None:
    if why := refused(hook):
        pytest.skip(why)


@pytest.fixture(scope="module", params=HOOKS)
def hook(request):
    alone(request.param)
    return request.param


def finite(rows: list[dict]) -> bool:
    return bool(rows) and all(math.isfinite(value) for row in rows for key, value in row.items() if key.startswith(("train/loss", "test/")))


@pytest.mark.parametrize("loss", options("loss"))
def test_a_hook_and_a_loss(hook, loss):
    assert finite(contracts.trace(tree([hook], loss=loss))[0])


@pytest.mark.parametrize("noise", options("noise"))
def test_a_hook_and_a_noise(hook, noise):
    assert finite(contracts.trace(tree([hook], noise=noise))[0])


@pytest.mark.parametrize("pair", itertools.combinations(HOOKS, 2), ids="-".join)
def test_two_hooks_in_either_order(pair):
    for hook in pair:
        alone(hook)
    first, second = (schema("with", hook).card.owns for hook in pair)
    if set(first) & set(second):
        for order in (pair, pair[::-1]):
            with pytest.raises(UserError, match=" both "):
                contracts.start(tree(order))
        return
    forward = contracts.trace(tree(pair))
    assert finite(forward[0])
    contracts.same(forward, contracts.trace(tree(pair[::-1])))
