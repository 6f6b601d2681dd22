"""Identity, records, interruption."""

import json
import os
import random
import signal
import threading
import time

import pytest
import torch

from runner.config import compose
from runner.config.bind import bind
from runner.core.errors import Stopped, UserError
from runner.execution import identity
from runner.execution.checkpoint import Checkpoints
from runner.execution.identity import canonical, run_id
from runner.execution.record import Record
from runner.execution.run import Failed, execute
from runner.report.display import Silent


def config(store, *overrides):
    with compose.composer() as composed:
        return bind(composed(compose.rewrite(["+recipe=noisy_labels", "scale=smoke", "display=none", f"store={store}", *overrides])))


@pytest.fixture
def display():
    return Silent()


def test_identity_leaves_out_what_does_not_change_the_result(tmp_path):
    base = config(tmp_path)
    for same in ("threads=2", "device=cpu", "logger=tensorboard", "trainer.checkpoint_every=1", "with.elr.lam=3", "store=elsewhere"):
        assert run_id(config(tmp_path, same)) == run_id(base), same
    others = ["seed=1", "with.elr.lam=4", "noise.rate=0.2", "loss=gce", "trainer.duration=3ep", "with=[]", "eval=[accuracy]", "trainer.batch_size=32"]
    assert len({run_id(config(tmp_path, o)) for o in others} | {run_id(base)}) == len(others) + 1


def test_ids_of_old_configs_stay():
    """New options with a default that is off must not lose anybody's results."""
    trees = {
        "plain": {"data": "digits", "model": "mlp", "loss": "ce", "learner": "supervised", "optimizer": "sgd", "trainer": "standard"},
        "noise": {"data": "digits", "model": "mlp", "loss": "ce", "noise": {"name": "symmetric", "rate": 0.2}, "trainer": "standard"},
        "elr": {"data": "digits", "loss": "ce", "with": {"elr": {"name": "elr", "lam": 7}}, "seed": 5},
        "wide": {"data": "digits", "model": {"name": "mlp", "width": 512}, "loss": {"name": "gce", "q": 0.5}},
    }
    assert {name: run_id(bind(tree)) for name, tree in trees.items()} == {
        "plain": "2629a50ae096", "noise": "84bdaa081c3a", "elr": "ca47f558f545", "wide": "34dd95b06937",
    }  # fmt: skip


def test_options_called_none_leave_no_trace():
    with_none = bind({"data": "digits", "noise": "none", "sparsity": "none"})
    assert canonical(with_none) == canonical(bind({"data": "digits"})) == {"data": ["digits", {}]}


class Killed(Silent):
    """Kills its own process a moment after so many steps of it."""

    def __init__(self, steps, moment):
        super().__init__()
        self.left, self.moment = steps, moment

    def step(self, loop):
        self.left -= 1
        if self.left == 0:
            threading.Timer(self.moment, os.kill, (os.getpid(), signal.SIGKILL)).start()


def test_killed_at_random_moments_it_ends_like_the_straight_run(tmp_path, display):
    overrides = ("trainer.duration=30ep", "trainer.checkpoint_every=0.01", "model.dropout=0.2", "noise.rate=0.5")
    record, done = execute(config(tmp_path / "straight", *overrides), display)
    broken, draw = config(tmp_path / "broken", *overrides), random.Random(0)
    for _ in range(8):
        steps, moment = draw.randint(1, 60), draw.uniform(0, 0.005)
        pid = os.fork()
        if pid == 0:
            try:
                execute(broken, Killed(steps, moment))
            finally:
                os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    again, summary = execute(broken, display)
    assert again.file("metrics.jsonl").read_bytes() == record.file("metrics.jsonl").read_bytes()
    assert summary["summary"] == done["summary"]


class Interrupted(Silent):
    """Asks its own process to stop at a step."""

    def __init__(self, at):
        super().__init__()
        self.at, self.lines = at, []

    def say(self, line):
        self.lines.append(line)

    def step(self, loop):
        if loop.state.step == self.at:
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_saves_and_the_same_command_goes_on(tmp_path, display):
    overrides = ("trainer.duration=20ep",)
    record, _ = execute(config(tmp_path / "a", *overrides), display)
    made = config(tmp_path / "b", *overrides)
    with pytest.raises(Stopped, match="stopped at step 100"):
        execute(made, Interrupted(100))
    assert Record(made).state == "stopped"
    said = []
    display.say = said.append
    again, _ = execute(made, display)
    assert any("goes on at step 100" in line for line in said)
    assert again.file("metrics.jsonl").read_bytes() == record.file("metrics.jsonl").read_bytes()


def test_a_nan_is_on_record(tmp_path, display):
    made = config(tmp_path, "optimizer.lr=1e30")
    with pytest.raises(Failed, match="at step"):
        execute(made, display)
    failed = json.loads(Record(made).file("failed.json").read_text())
    assert failed["component"]
    assert failed["step"] >= 0
    assert all(0 <= i < 1438 for i in failed["samples"])
    assert failed["samples"]


def test_killed_between_the_last_checkpoint_and_the_end(tmp_path, display):
    record, done = execute(config(tmp_path), display)
    record.file("done.json").unlink()
    again, ended = execute(config(tmp_path), display)
    assert ended["summary"] == done["summary"]
    assert again.state == "done"


@pytest.mark.parametrize("moved", [False, True])
def test_a_run_that_began_on_a_gpu_goes_on_without_one(tmp_path, moved):
    made = config(tmp_path, "with=mixup")
    with pytest.raises(Stopped):
        execute(made, Interrupted(5))
    checkpoints = Checkpoints(Record(made).file("checkpoints"), 1.0)
    saved = checkpoints.load()
    if moved:
        streams = saved["state"]["rng"]
        assert streams
        saved["state"]["rng"] = {key.replace("@cpu", "@cuda"): torch.zeros(16, dtype=torch.uint8) for key in streams}
        checkpoints.newest().unlink()
        checkpoints.save(5, {**saved, "cuda": torch.zeros(16, dtype=torch.uint8)})
    _, done = execute(made, shown := Interrupted(None))
    assert done
    assert any("goes on at step 5" in line for line in shown.lines)
    assert any("its numbers differ from here on" in line for line in shown.lines) == moved


@pytest.mark.parametrize("changed", [False, True])
def test_data_that_changed_since_a_run_began_is_told(tmp_path, display, changed):
    record, _ = execute(config(tmp_path), display)
    record.file("done.json").unlink()
    if changed:
        environment = json.loads(record.file("environment.json").read_text())
        record.file("environment.json").write_text(json.dumps({**environment, "data": "0"}))
    said = []
    display.say = said.append
    execute(config(tmp_path), display)
    assert any("goes on at step" in line for line in said)
    assert any("is not what it began with" in line and "was 0" in line for line in said) == changed


def test_a_stale_record_is_kept_aside(tmp_path, display):
    made = config(tmp_path)
    record, _ = execute(made, display)
    environment = json.loads(record.file("environment.json").read_text())
    record.file("environment.json").write_text(json.dumps({**environment, "code": "0"}))
    assert Record(made).state == "stale"
    said = []
    display.say = said.append
    execute(made, display)
    assert (tmp_path / f"{record.id}.stale-1" / "done.json").exists()
    assert record.state == "done"
    assert any("other code" in line for line in said)


def test_a_record_of_a_file_that_is_another_now_is_kept_aside(tmp_path, display):
    file = tmp_path / "flips.csv"
    made = config(tmp_path, "noise=matrix", f"noise.transition={file}")
    rows = [[float(i == j) for j in range(10)] for i in range(10)]
    first = None
    for swap in (False, True):
        if swap:
            rows[0], rows[1] = rows[1], rows[0]
        file.write_text("\n".join(",".join(map(str, row)) for row in rows))
        state = Record(made).state
        record, done = execute(made, display)
        assert state == ("stale" if first else "missing")
        assert Record(made).state == "done"
        assert done["summary"] != first
        first = done["summary"]
    assert (tmp_path / f"{record.id}.stale-1" / "done.json").exists()
    for unread in ("touch", "unlink"):  # other bytes matter; a file that is elsewhere now may be the same
        getattr(file, unread)()
        assert Record(made).state == "done"


@pytest.mark.parametrize("place", [0, 50, 99])
def test_the_fingerprint_of_a_large_file_is_of_its_ends(tmp_path, monkeypatch, place):
    monkeypatch.setattr(identity, "LARGE", 25)
    file = tmp_path / "large.bin"
    found = []
    for content in (bytes(100), bytes(place) + b"x" + bytes(99 - place), bytes(101)):
        file.write_bytes(content)
        found.append(identity.file_fingerprint(str(file)))
        identity._bytes.cache_clear()  # the clock of a file system may be too coarse for three writes
    assert (found[0] == found[1]) == (place == 50)
    assert found[2] not in found[:2]


@pytest.mark.parametrize("name", ["none.csv", ".", "a\0.csv", "x" * 5000 + ".csv", "~nobody-here/a.csv"])
def test_what_is_no_file_has_no_fingerprint(name):
    assert identity.file_fingerprint(name) is None


def test_fresh_runs_again(tmp_path, display):
    record, first = execute(config(tmp_path), display)
    _, again = execute(config(tmp_path, "fresh=true"), display)
    assert again["finished"] > first["finished"]
    assert (tmp_path / f"{record.id}.old-1").exists()


@pytest.mark.parametrize("began", ["fresh=true", "fresh=false"])
@pytest.mark.parametrize("changed", [False, True])
def test_fresh_goes_on_with_what_it_began_on_the_same_data(tmp_path, began, changed):
    """Whatever was begun otherwise is kept aside: a stopped command goes on, and one that was told that its data changed begins again."""
    with pytest.raises(Stopped):
        execute(config(tmp_path, began), Interrupted(5))
    record = Record(config(tmp_path, "fresh=true"))
    if changed:
        environment = json.loads(record.file("environment.json").read_text())
        record.file("environment.json").write_text(json.dumps({**environment, "data": "0"}))
    execute(record.config, shown := Interrupted(None))
    goes_on = began == "fresh=true" and not changed
    assert any("goes on at step 5" in line for line in shown.lines) == goes_on
    assert (tmp_path / f"{record.id}.old-1").exists() != goes_on


def test_two_processes_do_not_write_one_record(tmp_path, display):
    made = config(tmp_path)
    record = Record(made)
    record.claim.take()
    pid = os.fork()
    if pid == 0:
        try:
            execute(made, Silent())
        except UserError as error:
            os._exit(7 if "being run by process" in str(error) else 1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    record.claim.free()


def test_a_sink_that_fails_is_dropped_and_the_run_goes_on(tmp_path, display, monkeypatch):
    from runner.execution import sinks

    class Broken:
        def start(self, record):
            pass

        def log(self, row):
            raise OSError("disk")

    said = []
    made = sinks.Sinks([Broken(), None], None, said.append)
    made.log({})
    made.log({})
    made.close()
    assert said == ["Broken is dropped, the run goes on: OSError: disk"]


@pytest.mark.parametrize("mode", ["offline", "online"])
def test_wandb_without_account_or_network(tmp_path, display, mode, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "none"))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    start = time.time()
    record, _ = execute(config(tmp_path, "logger=wandb", f"logger.mode={mode}", f"seed={len(mode)}"), display)
    assert time.time() - start < 60
    assert record.state == "done"
    assert list(record.folder.glob("wandb/offline-run-*/*.wandb"))


def test_tensorboard(tmp_path, display):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    record, done = execute(config(tmp_path, "logger=tensorboard"), display)
    events = EventAccumulator(str(record.file("tensorboard")))
    events.Reload()
    values = [e.value for e in events.Scalars("test/acc")]
    assert values == pytest.approx([r["test/acc"] for r in record.rows()])
    assert events.Scalars("summary/test/acc_last")[0].value == pytest.approx(done["summary"]["test/acc_last"])


@pytest.mark.parametrize(("begin", "said"), [("2ep", True), ("46it", True), ("45it", False), ("0ep", False)])
def test_times_beyond_the_end_of_a_run_are_told(tmp_path, display, begin, said):
    lines = []
    display.say = lines.append
    execute(config(tmp_path, "with=[joint_optimisation]", f"with.joint_optimisation.begin={begin}", "trainer.duration=2ep", "eval=[]"), display)
    assert (f"with.joint_optimisation.begin={begin} is not within this run of 46 steps" in lines) == said
