"""What state a run is in, read from files made by hand."""

import hashlib
import json
import os
import socket

import pytest

from runner.execution import claim, store
from runner.execution.store import Store

RUN = "0123456789ab"
METRICS = b'{"step": 1, "test/acc": 50.0}\n{"step": 2, "test/acc": 60.0}\n'


@pytest.fixture
def made(tmp_path):
    """Make a record of these files; True stands for the content that a whole one has."""
    whole = {
        "metrics.jsonl": METRICS, "environment.json": {"code": "c0de"}, "failed.json": {"error": "why"}, "checkpoints/000000001-0.pt": b"",
        "done.json": {"summary": {}, "metrics": hashlib.sha256(METRICS).hexdigest()[:16]},
        "claim-1.json": {"host": socket.gethostname(), "boot": claim._boot(), "pid": os.getppid(), "born": claim.born(os.getppid()), "beat": 3},
    }  # fmt: skip

    def make(**files):
        for name, content in files.items():
            name = {"metrics": "metrics.jsonl", "checkpoint": "checkpoints/000000001-0.pt", "claim": "claim-1.json"}.get(name, f"{name}.json")
            content = whole[name] if content is True else content
            file = tmp_path / RUN / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return Store(tmp_path)

    return make


FREE = {"host": socket.gethostname(), "boot": "", "pid": 1, "born": "", "beat": 0, "free": True}
DONE = {"metrics": True, "done": True, "environment": True}


@pytest.mark.parametrize(
    ("files", "state"),
    [
        ({}, "missing"), ({"metrics": True}, "missing"), ({"checkpoint": True, "metrics": True}, "stopped"),
        ({"failed": True, "checkpoint": True}, "failed"), ({"claim": True}, "running"), ({"claim": True, "failed": True}, "running"),
        ({"claim": {**FREE, "free": False, "host": "elsewhere"}}, "running"), ({"claim": FREE, "checkpoint": True}, "stopped"),
        (DONE, "done"), ({**DONE, "claim": FREE, "checkpoint": True, "failed": True}, "done"), ({**DONE, "environment": {"code": "0"}}, "stale"),
        ({**DONE, "environment": b"{"}, "stale"), ({**DONE, "metrics": METRICS.replace(b"6", b"7")}, "damaged"), ({**DONE, "metrics": METRICS[:-1]}, "damaged"),
        ({**DONE, "metrics": METRICS.replace(b"6", b"7"), "environment": {"code": "0"}}, "damaged"),
        ({**DONE, "done": b'{"summ', "checkpoint": True}, "stopped"),
    ],
)  # fmt: skip
def test_states(made, files, state):
    assert made(**files).state(RUN, "c0de") == state


def test_without_a_question_about_code_nothing_is_stale(made):
    assert made(**{**DONE, "environment": {"code": "0"}}).state(RUN) == "done"


def test_done_without_metrics_is_damaged(made, tmp_path):
    found = made(**DONE)
    (tmp_path / RUN / "metrics.jsonl").unlink()
    assert found.state(RUN) == "damaged"


def test_rows_end_where_a_crash_tore_them(made):
    assert made(metrics=METRICS + b'{"step": 3, "te').rows(RUN) == [{"step": 1, "test/acc": 50.0}, {"step": 2, "test/acc": 60.0}]
    assert made(metrics=b"\xff\xfe").rows(RUN) == []
    assert Store("nowhere").rows(RUN) == []


def test_only_records_are_runs(made, tmp_path):
    found = made(**DONE)
    for name in (f"{RUN}.damaged-1", "logs", "plans", "0123456789AB", "0123456789abc"):
        (tmp_path / name).mkdir()
    (tmp_path / "abcdefabcdef").write_text("")
    assert list(found.ids()) == [RUN]


def test_a_file_is_there_whole_or_not_at_all(tmp_path):
    file = tmp_path / "done.json"
    store.write_json(file, {"a": 1})
    endless = {}
    endless["self"] = endless
    with pytest.raises(ValueError, match="Circular"):
        store.write_json(file, endless)
    assert json.loads(file.read_text()) == {"a": 1}
    assert [f.name for f in tmp_path.iterdir()] == ["done.json"]


def test_where_the_store_is(monkeypatch):
    monkeypatch.delenv("RUNNER_STORE", raising=False)
    assert str(store.folder()) == "runs"
    monkeypatch.setenv("RUNNER_STORE", "/elsewhere")
    assert str(store.folder()) == "/elsewhere"
    assert str(store.folder("asked")) == "asked"
