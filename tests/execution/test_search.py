"""Searches: what Optuna is told is what the runs measured, whatever fails, is pruned, asked for twice or killed."""

import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runner.cli import search as command
from runner.config import compose, space
from runner.core.errors import UserError
from runner.execution import claim, collect, search, worker
from runner.execution import plan as plans
from runner.execution.store import Store, digest
from runner.report.jobs import Silent
from runner.report.trials import print_study

LR = "optimizer.lr=tag(log,interval(1e-3,1.0))"


def peak(plain: dict, step: int) -> float:
    """Best at lr = 0.1, where it is `step`."""
    return step - abs(math.log10(plain["optimizer"]["lr"]) + 1)


class Inline:
    """A launcher that makes up the results: each look, every job measures `score(plain, step)` once more, and has done after so many steps.

    A score that is None fails the job.
    """

    frozen, queues = True, False

    def __init__(self, score=peak, steps=3, slots=1):
        self.score, self.steps, self.slots = score, steps, slots
        self.running: dict[str, tuple] = {}
        self.submitted: list[str] = []
        self.asked_to_stop: set[str] = set()

    def start(self, work, warm, components, folders, threads):
        pass

    def room(self):
        return self.slots - len(self.running)

    def submit(self, job, arguments):
        _, plain, store, _, code = arguments
        self.submitted.append(job)
        self.running[job] = (plain, Store(store), [])
        folder = Path(store) / job
        folder.mkdir(exist_ok=True)
        (folder / "environment.json").write_text(json.dumps({"code": code}))
        (folder / "metrics.jsonl").write_text("")
        other = os.getppid()  # some process that is alive
        mine = {"host": claim.socket.gethostname(), "pid": other, "boot": claim._boot(), "born": claim.born(other)}
        (folder / "claim-1.json").write_text(json.dumps(mine))

    def ended(self, seconds):
        return [(job, status) for job in list(self.running) if (status := self._step(job)) is not None]

    def _step(self, job):
        plain, store, rows = self.running[job]
        value = self.score(plain, len(rows) + 1)
        if job not in self.asked_to_stop and value is not None:
            rows.append(value)
            with store.file(job, "metrics.jsonl").open("a") as stream:
                stream.write(json.dumps({"step": len(rows), "test/acc": value}) + "\n")
            if len(rows) < self.steps:
                return None
            summary = {"test/acc_last": value, "test/acc_best": max(rows)}
            done = {"summary": summary, "metrics": digest(store.file(job, "metrics.jsonl"))}
            store.file(job, "done.json").write_text(json.dumps(done))
        del self.running[job]
        store.file(job, "claim-1.json").write_text(json.dumps({"free": True}))
        if job in self.asked_to_stop:
            return worker.STOPPED
        if value is None:
            store.fail(job, {"error": "made to fail"})
            return worker.FAILED
        return worker.DONE

    def stop(self, job, kill=False):
        self.asked_to_stop.add(job)

    def close(self):
        pass


def searched(folder, launcher, *overrides, trials=8, metric="test/acc_best", seeds=1, sampler="tpe", pruner="none", name="study"):
    """The study after a search."""
    with compose.composer() as composed:
        found = space.of(["scale=smoke", f"store={folder}", *overrides])
        plan = plans.of((line, composed(line)) for line in found.corners())
        question = search.Question(found, plan.asked, metric, "maximize", seeds)
        with search.opened(question, plan.store, name, sampler, pruner) as study:
            search.Search(study, question, composed, plan.store, trials, Silent()).run(launcher)
    return study


def test_what_a_study_asked_for_is_kept(tmp_path):
    searched(tmp_path, Inline(), LR, trials=3)
    (tmp_path / "0123456789ab").mkdir()
    (tmp_path / "0123456789ab" / "failed.json").write_text("{}")
    assert [item.run for item in collect.garbage(Store(tmp_path)) if item.run] == ["0123456789ab"]
    log = tmp_path / "studies" / "study.log"
    log.write_bytes(log.read_bytes() + b'{"op_code": 8, "user_attr": {"ru')  # killed while it wrote
    assert [item.run for item in collect.garbage(Store(tmp_path)) if item.run] == ["0123456789ab"]
    log.write_bytes(b"[]\n" + log.read_bytes())
    with pytest.raises(UserError, match=f"study {log} is damaged"):
        collect.garbage(Store(tmp_path))


def states(study) -> list[str]:
    return [t.state.name for t in study.trials]


def test_every_trial_is_a_run_and_told_what_it_measured(tmp_path):
    launcher = Inline()
    study = searched(tmp_path, launcher, LR, trials=25)
    assert states(study) == ["COMPLETE"] * 25
    assert len(set(launcher.submitted)) == 25
    for trial in study.trials:
        assert trial.value == pytest.approx(3 - abs(math.log10(trial.params["optimizer.lr"]) + 1))
        (run,) = trial.user_attrs["runs"]
        assert Store(tmp_path).done(run)["summary"]["test/acc_best"] == trial.value
    early, late = ([abs(math.log10(t.params["optimizer.lr"]) + 1) for t in part] for part in (study.trials[:10], study.trials[-10:]))
    assert sum(late) < sum(early)  # it learns


def test_the_mean_of_the_last_measurements_is_a_metric(tmp_path):
    study = searched(tmp_path, Inline(), LR, trials=3, metric="test/acc_last2")
    assert [t.value for t in study.trials] == pytest.approx([2.5 - abs(math.log10(t.params["optimizer.lr"]) + 1) for t in study.trials])
    with pytest.raises(UserError, match="has no metric 'test/acc_last4'"):
        searched(tmp_path, Inline(), LR, trials=1, metric="test/acc_last4", name="other")


def test_the_same_search_asks_for_the_same_trials(tmp_path):
    a, b = (searched(tmp_path / k, Inline(), LR, "loss=ce,gce", "loss.q=interval(0.1,1)", trials=15) for k in "ab")
    assert [t.params for t in a.trials] == [t.params for t in b.trials]
    assert {"loss.q" in t.params for t in a.trials if t.params["loss"] == "gce"} == {True}
    assert {"loss.q" in t.params for t in a.trials if t.params["loss"] == "ce"} == {False}


def test_a_search_that_goes_on_does_not_repeat_itself(tmp_path):
    searched(tmp_path, Inline(), LR, trials=4, sampler="random")
    launcher = Inline()
    study = searched(tmp_path, launcher, LR, trials=8, sampler="random")
    assert len({t.params["optimizer.lr"] for t in study.trials}) == 8
    assert len(launcher.submitted) == 4
    assert searched(tmp_path, launcher, LR, trials=8).trials == study.trials
    assert len(launcher.submitted) == 4


def test_what_is_done_is_told_without_running(tmp_path):
    first = searched(tmp_path, Inline(), LR, sampler="random")
    launcher = Inline()
    second = searched(tmp_path, launcher, LR, sampler="random", name="again")
    assert launcher.submitted == []
    assert [t.value for t in second.trials] == [t.value for t in first.trials]


@pytest.mark.parametrize("slots", [1, 3])
def test_trials_that_ask_for_the_same_run_share_it(tmp_path, slots):
    launcher = Inline(lambda plain, step: {0.1: 1.0, 0.2: None, 0.3: 3.0}[plain["optimizer"]["lr"]], slots=slots)
    study = searched(tmp_path, launcher, "optimizer.lr=0.1,0.2,0.3", trials=20, sampler="random")
    assert len(launcher.submitted) == len(set(launcher.submitted)) == 3
    assert {t.params["optimizer.lr"]: t.value for t in study.trials} == {"0.1": 1.0, "0.2": None, "0.3": 3.0}
    assert {t.state.name for t in study.trials if t.value is None} == {"FAIL"}
    assert len(study.trials) == 20


def test_a_trial_that_fails_ends_nothing(tmp_path):
    bad = lambda plain: plain["optimizer"]["lr"] > 0.1
    study = searched(tmp_path, Inline(lambda plain, step: None if bad(plain) else peak(plain, step)), LR, trials=12, sampler="random")
    assert states(study) == ["FAIL" if t.params["optimizer.lr"] > 0.1 else "COMPLETE" for t in study.trials]
    assert {"FAIL", "COMPLETE"} == set(states(study))


def test_a_value_that_is_not_finite_is_a_failure(tmp_path):
    study = searched(tmp_path, Inline(lambda plain, step: math.nan), "seed=1,2", trials=3)
    assert states(study) == ["FAIL"] * 3


def test_a_point_that_cannot_be_composed_is_a_failed_trial(tmp_path):
    refused = "optimizer.lr=choice(0.1,0.2)", "optimizer.momentum=choice(0.5,0.6)"
    with compose.composer() as composed:
        found = space.of(["scale=smoke", f"store={tmp_path}", *refused])

        def picky(line):
            if {"optimizer.lr=0.2", "optimizer.momentum=0.6"} <= set(line):
                raise UserError("these do not go together")
            return composed(line)

        question = search.Question(found, (), "test/acc_best", "maximize")
        with search.opened(question, Store(tmp_path), "study") as study:
            search.Search(study, question, picky, Store(tmp_path), 16, Silent()).run(Inline())
    bad = [t for t in study.trials if t.params == {"optimizer.lr": "0.2", "optimizer.momentum": "0.6"}]
    assert bad
    assert {t.state.name for t in bad} == {"FAIL"}
    assert states(study).count("COMPLETE") == 16 - len(bad)


def test_the_pruner_stops_what_falls_behind(tmp_path):
    launcher = Inline(steps=8)
    study = searched(tmp_path, launcher, LR, trials=20, sampler="random", pruner="median")
    pruned = [t for t in study.trials if t.state.name == "PRUNED"]
    complete = [t for t in study.trials if t.state.name == "COMPLETE"]
    assert len(pruned) + len(complete) == 20
    assert len(pruned) >= 3
    store = Store(tmp_path)
    assert all(store.done(t.user_attrs["runs"][0]) is None for t in pruned)
    for trial in pruned:  # these curves never cross: a pruned one is worse than half of those that had ended before
        before = sorted(t.value for t in complete if t.number < trial.number)
        last = max(trial.intermediate_values)
        assert trial.intermediate_values[last] < before[len(before) // 2] - (8 - last)
    assert study.best_value == max(8 - abs(math.log10(t.params["optimizer.lr"]) + 1) for t in study.trials)


def test_seeds_are_averaged_and_one_failure_fails_the_trial(tmp_path):
    score = lambda plain, step: None if (plain["seed"], plain["optimizer"]["lr"]) == (1, 0.2) else 10 * plain["seed"] + plain["optimizer"]["lr"]
    launcher = Inline(score)
    study = searched(tmp_path, launcher, "optimizer.lr=0.1,0.2", trials=6, seeds=3, sampler="random")
    assert {t.params["optimizer.lr"]: t.value for t in study.trials} == {"0.1": pytest.approx(10.1), "0.2": None}
    runs = {run for t in study.trials if t.value for run in t.user_attrs["runs"]}
    assert {Store(tmp_path).done(run)["summary"]["test/acc_last"] for run in runs} == {0.1, 10.1, 20.1}


def test_a_metric_that_no_run_has(tmp_path):
    with pytest.raises(UserError, match=r"has no metric 'test/accu_best'; did you mean 'test/acc_best'\?"):
        searched(tmp_path, Inline(), LR, metric="test/accu_best")


def test_a_study_answers_one_question(tmp_path):
    searched(tmp_path, Inline(), LR, trials=1)
    with pytest.raises(UserError, match="study study searches another space or metric"):
        searched(tmp_path, Inline(), LR, trials=1, metric="test/acc_last")
    searched(tmp_path, Inline(), LR, "launcher.slots=2", "threads=2", trials=1)  # the same question


def test_one_process_searches_at_a_time(tmp_path):
    folder = tmp_path / "studies" / "study"
    folder.mkdir(parents=True)
    other = os.getppid()
    content = {"host": claim.socket.gethostname(), "pid": other, "boot": claim._boot(), "born": claim.born(other)}
    (folder / "claim-1.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"is being run by process {other}"):
        searched(tmp_path, Inline(), LR)


def test_what_a_kill_leaves_of_the_journal_is_mended(tmp_path):
    before = searched(tmp_path, Inline(), LR, trials=3).trials
    journal = tmp_path / "studies" / "study.log"
    with journal.open("a") as stream:
        stream.write('{"op_code": 4, "wor')
    journal.with_name("study.log.lock").symlink_to(journal)
    start = time.monotonic()
    study = searched(tmp_path, Inline(), LR, trials=5)
    assert time.monotonic() - start < 10
    assert study.trials[:3] == before
    assert states(study) == ["COMPLETE"] * 5


def _killed(action, after: int) -> int:
    """The status of a process that does something and is killed when it has synchronised the journal so often: the lock is held then."""
    left, sync = iter(range(after)), os.fsync
    pid = os.fork()
    if pid == 0:
        os.fsync = lambda stream: sync(stream) if next(left, None) is not None else os.kill(os.getpid(), signal.SIGKILL)
        try:
            action()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_killed_at_random_moments_a_search_ends_with_as_many_trials(tmp_path):
    draw, ran = random.Random(0), tmp_path / "ran"

    class Counted(Inline):
        def _step(self, job):
            status = super()._step(job)
            if status == worker.DONE:
                with ran.open("a") as stream:
                    stream.write(job + "\n")
            return status

    go = lambda: searched(tmp_path, Counted(steps=4, slots=3), LR, trials=12)
    for _ in range(3):
        assert _killed(go, draw.randint(10, 35)) == -signal.SIGKILL
    study = go()
    ended = search.finished(study)
    assert [t.state.name for t in ended] == ["COMPLETE"] * 12
    assert len({t.user_attrs["runs"][0] for t in ended}) == 12
    assert {t.state.name for t in study.trials} <= {"COMPLETE", "FAIL"}
    done = ran.read_text().split()
    assert len(done) == len(set(done)) == 12


def test_the_command_killed_goes_on(runner, tmp_path):
    arguments = ["search", "scale=smoke", "trainer.duration=40ep", "trainer.checkpoint_every=0.1", LR, "--trials", "3", "--pruner", "none", "launcher.slots=2"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p.endswith("src")), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-m", "runner", *arguments], cwd=tmp_path, env=environment, stderr=subprocess.PIPE)
    until = time.monotonic() + 90
    while not (done := list(tmp_path.glob("runs/*/done.json"))) and time.monotonic() < until and process.poll() is None:
        time.sleep(0.02)
    process.kill()
    process.communicate()
    before = {file: file.stat().st_mtime_ns for file in done}
    assert before
    again = runner(*arguments)
    assert again.returncode == 0, again.stderr
    assert "3 trials: 3 complete" in again.stdout
    assert "best: runner scale=smoke trainer.duration=40ep" in again.stdout
    assert len(list(tmp_path.glob("runs/*/done.json"))) == 3
    assert {file: file.stat().st_mtime_ns for file in before} == before


def test_the_end_of_a_search(tmp_path, capsys):
    study = searched(tmp_path, Inline(), LR, "loss=ce,gce", "loss.q=interval(0.1,1)", trials=25)
    print_study(study, study.trials, "test/acc_best", lambda overrides: " ".join(["runner", *overrides]))
    said = capsys.readouterr().out
    assert study.best_trial.user_attrs["runs"][0] in said
    assert f"best: runner scale=smoke store={tmp_path} " in said
    assert f"optimizer.lr={study.best_params['optimizer.lr']}" in said
    assert "25 trials: 25 complete" in said
    shares = {line.split()[1]: float(line.split()[0].rstrip("%")) for line in said.splitlines() if line.strip().split(" ")[0].endswith("%")}
    assert shares["optimizer.lr"] > 90  # the loss changes nothing


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["loss=ce"], "nothing to search"),
        (["loss=ce,gce", "--trials", "0"], "--trials: '0' is no number of at least 1"),
        (["loss=ce,gcee"], "no option 'gcee' in group 'loss'; did you mean 'gce'"),
        (["loss=ce,gce", "loss.qq=interval(0,1)"], "unknown key 'loss.qq'"),
        (["loss=gce", "loss.q=interval(0.5,1.5)"], "loss.q=1.5 is out of range"),
        (["seed=1,2", "--seeds", "2"], "--seeds sets the seed"),
        (["seed=1,2", "--seeds", "0-1"], "--seeds sets the seed"),
        (["loss=ce,gce", "--seeds", "1-3"], "--seeds: '1-3' is no number"),
        (["loss=ce,gce", "--sampler-seed", "-1"], "--sampler-seed: '-1' is no number of at least 0"),
        (["seed=1,2", "--study", "../x"], "is no name"),
        (["seed=1,2", "--metric", "test/what_last"], "say --direction"),
        (["seed=1,2", "--space", "nowhere.yaml"], "No such file"),
        (["seed=1,2", "--trails", "3"], "unrecognized arguments: --trails"),
        (["seed=1,2", "--fail-fast"], "a search takes none of"),
        (["seed=1,2", "fresh=true"], "fresh=true is for runs"),
    ],
)
def test_bad_input_is_refused_and_nothing_written(tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=said):
        command.main(arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_large_seed_of_the_sampler(tmp_path):
    question = search.Question(space.Space((), {}, {}), (), "test/acc_best", "maximize")
    with search.opened(question, Store(tmp_path), "large", seed=2**32) as study:
        assert 0 <= study.ask().suggest_float("x", 0, 1) <= 1


def test_seeds_are_a_number_or_the_first_so_many():
    assert [command.parse(["loss=ce,gce", "--seeds", text]).seeds for text in ("3", "0-2", "0-0")] == [3, 3, 1]


def test_the_direction_is_the_evaluators():
    with compose.composer() as composed:
        (job,) = plans.of([([], composed([]))]).jobs
    assert command.direction("test/acc_best", job.config) == "maximize"
    assert command.direction("test/loss_last", job.config) == "minimize"


def test_without_optuna_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "runner.execution.search")
    monkeypatch.setitem(sys.modules, "optuna", None)
    import runner.execution

    monkeypatch.delattr(runner.execution, "search")
    with pytest.raises(UserError, match=r"needs optuna: pip install 'runner-lab\[search\]'"):
        command.main(["loss=ce,gce"])
