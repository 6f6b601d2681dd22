"""The list of a store and what is collected from it, on records made by hand."""

import hashlib
import io
import json
import math
import os
import socket
import sys
import time

import pytest
from rich.console import Console

from runner.cli import runs as command
from runner.config.bind import bind
from runner.core.errors import UserError
from runner.execution import claim, collect, plan
from runner.execution.identity import run_id
from runner.execution.plan import Job, Plan
from runner.execution.store import Store, folder
from runner.report import runs, summary

A, B, C, D = "aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc", "dddddddddddd"


def record(store, run, acc=None, **changes):
    """A run that is done with this accuracy, or failed."""
    folder = store / run
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(bind({"data": "digits", "trainer": "standard", **changes}).plain()))
    rows = json.dumps({"step": 1, "test/acc": 7.0}).encode() + b"\n"
    (folder / "metrics.jsonl").write_bytes(rows)
    done = {"summary": {"test/acc_last": acc, "train/x_last": 1.0}, "seconds": 60.0, "finished": time.time() - 7200, "metrics": _hash(rows)}
    end, content = ("failed.json", {"error": "x"}) if acc is None else ("done.json", done)
    (folder / end).write_text(json.dumps(content))


def _hash(rows):
    return hashlib.sha256(rows).hexdigest()[:16]


def runs_now(folder, run):
    """Let another process, this one's parent, hold the claim on a run."""
    pid = os.getppid()
    content = {"host": socket.gethostname(), "boot": claim._boot(), "pid": pid, "born": claim.born(pid), "beat": 3}
    (folder / run / "claim-1.json").write_text(json.dumps(content))


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    folder = tmp_path / "runs"
    record(folder, A, 90.0, loss="ce", seed=0, threads=2)
    record(folder, B, 80.0, loss="gce", seed=1)
    record(folder, C, 85.0, loss={"name": "gce", "q": 0.5}, seed=1, **{"with": {"elr": {"name": "elr"}}})
    record(folder, D, None, loss="ce", seed=7)
    return folder


def listed(store, *arguments):
    assert command.main([f"store={store}", "--json", *arguments]) == 0


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (["loss=gce"], "bc"),
        (["loss!=gce"], "ad"),
        (["loss.q=0.7"], "b"),
        (["with=elr"], "c"),
        (["with=[elr]"], "c"),
        (["with=[]"], "abd"),
        (["seed<5"], "abc"),
        (["seed==1"], "bc"),
        (["seed<=1", "test/acc_last>80"], "ac"),
        (["test/acc_last>=80", "loss=gce", "seed=1"], "bc"),
        (["bbb"], "b"),
        (["--state", "failed"], "d"),
        (["--state", "stale"], "abc"),  # no record says that today's code wrote it
        (["seconds>59"], "abc"),
    ],
    ids=str,
)
def test_filters(store, capsys, filters, found):
    listed(store, *filters)
    assert {run["id"][0] for run in json.loads(capsys.readouterr().out)} == set(found)


@pytest.mark.parametrize("place", ["~/there", '"~/there"', "'~/there'"])
def test_a_store_in_the_home_of_the_user(tmp_path, monkeypatch, place):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert folder(place) == tmp_path / "there"
    monkeypatch.setenv("RUNNER_STORE", place)
    assert folder() == tmp_path / "there"
    tree = {"data": "digits", "trainer": "standard"}
    assert run_id(bind({**tree, "store": place})) == run_id(bind(tree))


def test_order_and_values(store, capsys):
    listed(store, "--sort", "test/acc_last")
    found = json.loads(capsys.readouterr().out)
    assert [(run["id"], run["metrics"]["test/acc_last"]) for run in found] == [(D, 7.0), (B, 80.0), (C, 85.0), (A, 90.0)]
    assert [round(run["age"] / 3600) for run in found[1:]] == [2, 2, 2]
    assert {run["seconds"] for run in found} == {None, 60.0}


def test_nan_disturbs_neither_order_nor_json(store, capsys):
    record(store, "eeeeeeeeeeee", math.nan, seed=8)
    command.main([f"store={store}", "--json", "--sort", "test/acc_last"])
    found = json.loads(capsys.readouterr().out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert [run["metrics"]["test/acc_last"] for run in found] == [None, 7.0, 80.0, 85.0, 90.0]


def test_the_columns_are_the_keys_that_differ(store, capsys):
    assert runs.apart(runs.read(Store(store))) == ["seed", "with", "loss", "loss.q"]
    assert runs.apart(runs.select(runs.read(Store(store)), ["seed=1"])) == ["with", "loss.q"]
    assert command.main([f"store={store}"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["run", "state", "age", "time", "seed", "with", "loss", "loss.q", "test/acc"]
    assert [A, "done", "2.0", "h", "60.0", "s", "0", "[]", "ce", "90.00"] in lines


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["lss=ce"], "no run has 'lss'; did you mean 'loss'?"),
        (["zzz"], "no run 'zzz'"),
        (["with=[elr"], "cannot read 'with=[elr'"),
        (["seed={"], "cannot read 'seed={'"),
        (["loss=@"], "cannot read 'loss=@'"),
        (["loss=!foo"], "cannot read 'loss=!foo'"),
        (["seed=2020-13-45"], "cannot read 'seed=2020-13-45'"),
        (["--state", "failled"], "no state 'failled'; did you mean 'failed'?"),
        (["--sort", "test/acc"], "did you mean 'test/acc_last'?"),
        (["store=nowhere"], "there is no store nowhere"),
        (["gc", A], f"runs gc takes no '{A}'"),
    ],
)
def test_bad_input(store, arguments, said):
    place = [] if "store=nowhere" in arguments else [f"store={store}"]
    with pytest.raises(UserError) as error:
        command.main([*arguments, *place])
    assert said in str(error.value)


def test_ids_and_states_are_whole_at_any_width(store, capsys, monkeypatch):
    console = Console(width=40, file=io.StringIO())
    console.print(runs.table(runs.read(Store(store))))
    lines = console.file.getvalue().splitlines()
    assert {line.split()[0]: line.split()[1] for line in lines[1:] if line[:1].strip()} == {A: "done", B: "done", C: "done", D: "failed"}
    console = Console(width=40, file=io.StringIO())
    summary.print_jobs([(["optimizer.lr=0.1", f"seed={k}"], "missing", {"summary": {f"test/{k}_last": 1.0 for k in range(9)}}) for k in range(2)], console)
    assert console.file.getvalue().count("missing") == 2
    monkeypatch.setenv("COLUMNS", "40")
    assert command.main([f"store={store}"]) == 0
    assert any(len(line) > 60 for line in capsys.readouterr().out.splitlines()[1:-1])  # a pipe has room


def test_a_thousand_runs_are_listed_quickly(tmp_path):
    record(tmp_path, A, 90.0)
    files = {f.name: f.read_bytes() for f in (tmp_path / A).iterdir()}
    for k in range(1000):
        (tmp_path / f"{k:012x}").mkdir()
        for name, content in files.items():
            (tmp_path / f"{k:012x}" / name).write_bytes(content)
    start = time.process_time()
    found = runs.read(Store(tmp_path))
    runs.table(runs.select(found, ["seed=0", "test/acc_last>50"]))
    assert len(found) == 1001
    assert time.process_time() - start < 4


def planned(store, *ids):
    jobs = tuple(Job(run, (), json.loads((store / run / "config.json").read_text()), "") for run in ids)
    return plan.freeze(Plan(jobs, Store(store)), store / "plans" / "0123456789ab.jsonl", []).file


def left(store):
    return {f.relative_to(store).as_posix() for f in store.rglob("*")}


def test_gc_removes_what_no_plan_names_and_nothing_else(store, capsys):
    planned(store, A)
    runs_now(store, D)
    record(store, f"{A}.stale-1", 70.0)
    (store / "logs").mkdir()
    for name in (A, B, D, "eeeeeeeeeeee"):
        (store / "logs" / f"{name}.txt").write_text("12345")
    (store / "my notes").mkdir()
    parts = [store / A / ".done.json-999999999", store / A / ".claim-999999999-140001", store / "plans" / ".x.jsonl-999999999"]
    young, alive = store / A / ".config.json-999999999", store / A / f".config.json-{os.getpid()}"
    for file in (*parts, young, alive):
        file.write_text("half")
    parts.append(store / f".{B}-999999999")
    parts[-1].mkdir()
    (store / ".notes-999999999").mkdir()
    for file in (*parts, alive):
        os.utime(file, (time.time() - 3600,) * 2)
    before = left(store)
    assert command.main(["gc", "--dry-run", f"store={store}"]) == 0
    assert left(store) == before
    shown = capsys.readouterr().out
    size = sum(f.stat().st_size for f in (store / B).iterdir())
    assert f"{store / B}  no plan or study names it  {command.size(size)}" in shown
    assert "9 things, " in shown
    assert command.main(["gc", "--yes", f"store={store}"]) == 0
    gone = {n for n in before if n.split("/")[0] in (B, C, f"{A}.stale-1")} | {f"logs/{B}.txt", "logs/eeeeeeeeeeee.txt"}
    assert left(store) == before - gone - {f.relative_to(store).as_posix() for f in parts}


def test_gc_leaves_a_run_that_begins_meanwhile(store):
    planned(store, A, C, D)
    (item,) = collect.garbage(Store(store))
    runs_now(store, B)
    before = left(store)
    assert collect.remove(Store(store), item) is False
    assert left(store) == before


def test_gc_refuses_without_plans_or_with_a_damaged_one(store):
    before = left(store)
    with pytest.raises(UserError, match="no plan or study names any run"):
        command.main(["gc", "--yes", f"store={store}"])
    assert left(store) == before
    file = planned(store, A)
    file.write_bytes(file.read_bytes().replace(A.encode(), B.encode()))
    with pytest.raises(UserError, match=rf"plan {file}.* is damaged"):
        command.main(["gc", "--yes", "--all", f"store={store}"])
    assert left(store) == before | {"plans", "plans/0123456789ab.jsonl"}
    file.unlink()
    assert command.main(["gc", "--yes", "--all", f"store={store}"]) == 0
    assert left(store) == {"plans"}


@pytest.mark.parametrize(("answer", "stays"), [("n\n", True), ("\n", True), ("", True), ("y\n", False)])
def test_gc_asks_on_a_terminal(store, monkeypatch, answer, stays):
    class Terminal:
        isatty = staticmethod(lambda: True)
        readline = staticmethod(lambda: answer)

    planned(store, A)
    monkeypatch.setattr(sys, "stdin", Terminal)
    assert command.main(["gc", f"store={store}"]) == 0
    assert (store / B).exists() == stays


def test_gc_without_a_terminal_needs_yes(runner, store, tmp_path):
    planned(store, A)
    done = runner("runs", "gc")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "add --yes" in done.stderr
    assert (store / B).exists()
