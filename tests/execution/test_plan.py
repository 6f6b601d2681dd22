"""A frozen plan."""

import os
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from runner.cli import run, sweep
from runner.components.launcher import local
from runner.config import compose, recipes, registry
from runner.config.bind import bind
from runner.core.errors import UserError
from runner.execution import plan as plans
from runner.execution.identity import run_id
from runner.execution.plan import Plan, make, planned, read
from runner.execution.pool import own_folders

SWEEP = ["+recipe=noisy_labels", "scale=smoke", "loss=ce,gce", "seed=range(3)"]


def ids(plan: Plan) -> list[str]:
    return [job.id for job in plan.jobs]


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.delenv("RUNNER_STORE", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def recipe(tmp_path):
    """Write the recipe `mine` of a user's own folder."""
    folder = tmp_path / "conf"
    (folder / "recipe").mkdir(parents=True)
    registry.add_folder(folder)

    def forget():
        for cached in (recipes.names, recipes.read, registry.folders, registry.options):
            cached.cache_clear()

    def edit(rate, more=""):
        text = f"defaults: [{{override /noise: symmetric}}]\nnoise: {{rate: {rate}}}\npaper: {{key: mine, title: Mine, family: noise}}\n{more}\n"
        (folder / "recipe" / "mine.yaml").write_text(text)
        forget()

    yield edit
    registry._folders.remove(folder)
    forget()


def test_a_plan_is_read_as_it_was_frozen():
    first = planned(SWEEP)
    again = planned(SWEEP)
    assert len(first.jobs) == 6
    assert [(j.id, j.own, j.plain, j.code) for j in again.jobs] == [(j.id, j.own, j.plain, j.code) for j in first.jobs]
    assert again.file == first.file == Path("runs/plans") / first.file.name
    assert again.store.folder == Path("runs")
    assert first.jobs[0].own == ("loss=ce", "seed=0")


def test_ids_are_those_of_full_compositions():
    """Values are laid over one composition; each job composed by itself by Hydra must be the same run."""
    lines = [
        ["+recipe=noisy_labels", "scale=smoke,paper", "data=digits", "optimizer.lr=1e-3"],
        ["noise=symmetric", "noise.rate=0.1,0.2", "model.dropout=${noise.rate}"],
        ["noise=none,pair", "noise.rate=0.1", "with=[elr]", "with.elr.lam=2", "++model.dropout=0.1", "seed=3"],
    ]  # fmt: skip
    for overrides in lines:
        made = make(overrides)
        with compose.composer():
            assert list(made.asked) == [run_id(bind(compose.compose(job))) for job in plans.expand(overrides)]


def test_each_run_is_planned_once():
    """Also where two command lines mean the same: a value that is the default, and one that changes no result."""
    with compose.composer() as composed:
        plan = plans.of([(line, composed(line)) for line in (["seed=0"], ["seed=1"], ["threads=2"], ["loss=ce"], ["seed=1"])])
    first, second = ids(plan)
    assert plan.asked == (first, second, first, first, second)


def test_later_edits_change_nothing_in_a_frozen_plan(recipe):
    recipe(0.1)
    frozen = planned(["+recipe=mine", "seed=0,1"])
    recipe(0.3)
    assert [job.config.one("noise").args["rate"] for job in read(frozen.file).jobs] == [0.1, 0.1]
    again = planned(["+recipe=mine", "seed=0,1"])
    assert [job.config.one("noise").args["rate"] for job in again.jobs] == [0.3, 0.3]
    assert again.file != frozen.file
    assert not set(ids(again)) & set(ids(frozen))


@pytest.mark.parametrize("number", [1, 3, 7])
def test_a_damaged_line_is_named(number):
    frozen = planned(SWEEP)
    lines = frozen.file.read_bytes().splitlines(keepends=True)
    for line in (lines[number - 1].replace(b"a", b"b", 1), lines[number - 1][:-9] + b"\n", b"\xff\n"):
        frozen.file.write_bytes(b"".join([*lines[: number - 1], line, *lines[number:]]))
        with pytest.raises(UserError, match=f"line {number}, is damaged"):
            read(frozen.file)
    again = planned(SWEEP)
    assert ids(again) == ids(read(again.file)) == ids(frozen)


@pytest.mark.parametrize("kept", [0, 1, 4, 6])
def test_a_plan_that_lost_lines_is_refused(kept):
    frozen = planned(SWEEP)
    lines = frozen.file.read_bytes().splitlines(keepends=True)
    frozen.file.write_bytes(b"".join(lines[:kept]))
    with pytest.raises(UserError, match="has lost jobs"):
        read(frozen.file)
    frozen.file.write_bytes(b"".join([*lines[:2], *lines[3:]]))
    with pytest.raises(UserError, match="has lost jobs"):
        read(frozen.file)
    assert ids(planned(SWEEP)) == ids(frozen)
    assert [f.name for f in frozen.file.parent.iterdir()] == [frozen.file.name]


def test_a_plan_that_is_not_there_is_said():
    with pytest.raises(UserError, match="No such file"):
        read("nowhere.jsonl")


def test_the_first_job_is_told_before_the_others_are_known():
    told = []
    with pytest.raises(UserError, match="gcee"):
        planned(["loss=ce,gcee", "seed=7"], first=told.append)
    assert [(c.one("loss").option, c.settings["seed"]) for c in told] == [("ce", 7)]
    plan = planned(SWEEP, first=told.append)
    assert len(told) == 2
    assert run_id(told[1]) == plan.jobs[0].id
    planned(SWEEP, first=told.append)  # it is frozen: nothing is made
    assert len(told) == 2


def test_nothing_is_frozen_of_what_does_not_bind(tmp_path):
    for wrong in (["model.width=4,-1"], ["loss=ce,gcee"], ["seed=1,x"], ["store=a,b"]):
        with pytest.raises(UserError) as said:
            planned(wrong)
        assert "\n" not in str(said.value)
    assert list(tmp_path.iterdir()) == []


def test_a_plan_is_in_the_store_that_it_names(tmp_path):
    plan = planned(["store=there", "seed=0,1"])
    assert plan.file.parent == Path("there/plans")
    assert read(plan.file).store.folder == Path("there")
    moved = tmp_path / "elsewhere.jsonl"
    moved.write_bytes(plan.file.read_bytes())
    assert read(moved).store.folder == Path("there")


@pytest.mark.parametrize("asked", ["++store=there", "+store=there", "+recipe=mine", "store=there"])
def test_however_a_plan_names_its_store_it_keeps_it(tmp_path, recipe, asked):
    recipe(0.1, "store: there")
    for _ in range(2):
        plan = planned([asked, "seed=0,1"])
        assert plan.store.folder == Path("there")
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(plan.file.read_bytes())
    assert read(copy).store.folder == Path("there")


def test_the_plan_of_a_sweep_is_in_its_store(monkeypatch):
    """Where `runner runs gc` looks."""
    plan = planned(["++store=there", "seed=0,1"])
    monkeypatch.setattr(sweep, "Pool", lambda *_: SimpleNamespace(run=dict))
    sweep.run(plan, display=object())
    assert [ids(read(file)) for file in Path("there/plans").iterdir()] == [ids(plan)]


def test_a_store_that_moved_takes_its_plans_along(tmp_path):
    file = planned(["store=there", "seed=0,1"]).file
    Path("there").rename("elsewhere")
    moved = tmp_path / "elsewhere" / "plans" / file.name
    assert read(moved).store.folder == tmp_path / "elsewhere"


def test_variables_that_a_recipe_reads_are_part_of_what_was_asked(recipe, monkeypatch):
    recipe("'${oc.decode:${oc.env:RATE}}'")
    for rate in ("0.1", "0.3", "0.1"):
        monkeypatch.setenv("RATE", rate)
        assert [job.plain["noise"]["rate"] for job in planned(["+recipe=mine", "seed=0,1"]).jobs] == [float(rate)] * 2


def test_a_thousand_jobs_are_planned_in_seconds():
    """Processor time, the better of two tries: 10 s cold, 1 s where nothing has changed."""
    code = "import sys; from runner.execution.plan import planned; assert len(planned(sys.argv[1:]).jobs) == 1000"
    line = ["+recipe=noisy_labels", "loss=ce,gce,mae,sce", "noise.rate=0.1,0.2,0.3,0.4,0.5", "seed=range(50)"]

    def seconds(store):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p.endswith("src"))}
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code, *line, f"store={store}"], env=environment, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert seconds("a") <= 10 or seconds("b") <= 10
    assert seconds("a") <= 1 or seconds("a") <= 1


def test_a_sweep_tells_the_launcher_what_jobs_need_before_they_are_all_known(monkeypatch):
    told = []
    monkeypatch.setattr(local.Local, "prepare", lambda self, warm: told.append(warm))
    monkeypatch.setattr(local.Local, "expect", lambda self, components, folders: told.append((components, folders)))
    with pytest.raises(UserError, match="gcee"):
        run.main(["-m", "+recipe=noisy_labels", "loss=ce,gcee"])
    first, again, (components, folders) = told
    assert (first, again, folders) == ("runner.execution.warm", "runner.execution.warm", own_folders())
    assert {("data", "digits"), ("loss", "ce"), ("with", "elr")} <= set(components)
