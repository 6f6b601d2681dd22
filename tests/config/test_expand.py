"""From one command line to many."""

import re

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

from runner.config import compose
from runner.config.expand import expand, own, parse
from runner.core.errors import UserError


@pytest.fixture(autouse=True)
def composed():
    with compose.composer() as call:
        yield call


@pytest.mark.parametrize(
    "overrides",
    [
        ["seed=1"], ["seed=1,2", "noise.rate=0.2"], ["noise=symmetric,pair", "seed=range(3)"], ["seed=range(1,9,3)", "optimizer.lr=choice(0.1,1e-3)"],
        ["loss=glob(*e)", "seed=1,0"], ["model=glob([m*,r*],exclude=mlp)"], ["seed=sort(3,1,2)", "trainer.duration='1,2',3it"],
        ["seed=range(2)", "with=[mixup],[elr]", "+recipe=noisy_labels", "++model.width=1,2"],
    ],
)  # fmt: skip
def test_sweeps_are_those_of_hydra(overrides):
    """Hydra's own sweeper says which jobs there are, and in which order."""
    (expected,) = BasicSweeper.split_arguments(parse(overrides), None)
    assert expand(overrides) == expected


def test_zip():
    assert expand(["seed=zip(1,2)", "noise.rate=zip(0.2,0.4)"]) == [["seed=1", "noise.rate=0.2"], ["seed=2", "noise.rate=0.4"]]
    assert expand(["seed=zip(1,2)", "model.width=8,16", "noise.rate=zip(0.2,0.4)"]) == [
        ["seed=1", "noise.rate=0.2", "model.width=8"], ["seed=1", "noise.rate=0.2", "model.width=16"],
        ["seed=2", "noise.rate=0.4", "model.width=8"], ["seed=2", "noise.rate=0.4", "model.width=16"],
    ]  # fmt: skip
    named = expand(["seed=zip(1,2,by=a)", "noise.rate=zip(0.2,0.4,by=b)", "model.width=zip(8,16,by=a)"])
    assert {tuple(job) for job in named} == {
        (f"seed={s}", f"model.width={w}", f"noise.rate={r}") for s, w in ((1, 8), (2, 16)) for r in (0.2, 0.4)
    }  # fmt: skip


def test_zips_of_different_lengths_are_refused():
    with pytest.raises(UserError, match=r"zip\(...\) of 3 values goes with one of 2"):
        expand(["seed=zip(1,2)", "noise.rate=zip(0.2,0.4,0.6)"])
    with pytest.raises(UserError, match=r"cannot read 'seed=zip\(\)'"):
        expand(["seed=zip()"])


@pytest.mark.parametrize("overrides", [["seed=range(2)", "seed=5"], ["seed=5", "seed=1,2"], ["loss=ce,gce", "loss=mae,sce"], ["seed=1", "++seed=1,2"]])
def test_a_swept_key_that_is_set_twice_is_refused(overrides):
    with pytest.raises(UserError, match=f"is set twice: {re.escape(' and '.join(overrides))}$"):
        expand(overrides)
    assert expand(["seed=1", "seed=2", "loss=ce,gce"])[0] == ["seed=1", "seed=2", "loss=ce"]  # the last one counts, in a single run too


@pytest.mark.parametrize("sweep", ["interval(0,1)", "tag(log,interval(1e-3,1))"])
def test_an_interval_has_no_values_to_run(sweep):
    with pytest.raises(UserError, match="an interval is for runner search"):
        expand([f"optimizer.lr={sweep}"])


@pytest.mark.parametrize(
    ("overrides", "jobs"),
    [
        (["loss=ce,gce", "loss.q=0.5,0.7"], [["loss=ce"], ["loss=gce", "loss.q=0.5"], ["loss=gce", "loss.q=0.7"]]),
        (["loss=ce,gce", "loss.q=0.5"], [["loss=ce"], ["loss=gce", "loss.q=0.5"]]),
        (["loss.q=0.5,0.7", "loss=gce,ce"], [["loss.q=0.5", "loss=gce"], ["loss=ce"], ["loss.q=0.7", "loss=gce"]]),
        (["with=[],[elr]", "with.elr.lam=3,5"], [["with=[]"], ["with=[elr]", "with.elr.lam=3"], ["with=[elr]", "with.elr.lam=5"]]),
        (["noise=pair,cifar10n", "noise.rate=0.1,0.2"], [["noise=pair", "noise.rate=0.1"], ["noise=pair", "noise.rate=0.2"], ["noise=cifar10n"]]),
        (["model=resnet18,mlp", "model.depth=2"], [["model=resnet18", "model.depth=2"], ["model=mlp", "model.depth=2"]]),
        (["model=mlp,linear", "++model.width=16,32"], [["model=mlp", "++model.width=16"], ["model=mlp", "++model.width=32"], ["model=linear"]]),
        (["noise=none,symmetric", "noise.rate=0.2", "seed=1,2"], [
            ["noise=none", "seed=1"], ["noise=none", "seed=2"], ["noise=symmetric", "noise.rate=0.2", "seed=1"], ["noise=symmetric", "noise.rate=0.2", "seed=2"]
        ]),
    ],
)  # fmt: skip
def test_keys_exist_under_some_options_only(overrides, jobs):
    assert expand(overrides) == jobs


def test_a_key_that_no_option_has_is_refused(composed):
    for overrides in (["loss=ce,gce", "loss.zz=1"], ["loss=ce,mae", "loss.q=0.5"], ["noise=symmetric,pair", "noise.rat=0.1"]):
        with pytest.raises(UserError, match="unknown key"):
            [composed(job) for job in expand(overrides)]


def test_what_cannot_be_read_is_said_in_one_line():
    for overrides in (["seed=range(3"], ["seed=glob(x*)"], ["model=glob(zz*)"], ["seed=range(0)"]):
        with pytest.raises(UserError) as said:
            expand(overrides)
        assert "\n" not in str(said.value)


def test_shorthands_are_rewritten_before_they_multiply():
    assert expand(["recipe=noisy_labels", "with+=mixup", "seed=1,2"]) == [["+recipe=noisy_labels", "+with@with.mixup=mixup", f"seed={s}"] for s in (1, 2)]


def test_a_job_that_is_asked_for_twice_is_one():
    assert expand(["optimizer.lr=0.1,0.2,0.1", "seed=0,0"]) == [["optimizer.lr=0.1", "seed=0"], ["optimizer.lr=0.2", "seed=0"]]


def test_what_sets_a_job_apart():
    assert own([["a=1", "b=1", "c=2"], ["a=1", "c=2", "b=2"], ["a=1", "c=2"]]) == [["b=1"], ["b=2"], []]
    assert own([["a=1", "b=1"]]) == [["a=1", "b=1"]]
