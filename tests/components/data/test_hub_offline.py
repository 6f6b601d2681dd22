"""What is on this machine is read without asking anybody, and what is not is said without asking where the user forbids it."""

import json
import socket
import threading

import pytest
import tiny_transformer

from runner import UserError
from runner.components import _hub
from runner.components.data.hub import build as hub
from runner.components.data.texts import build as texts

datasets = pytest.importorskip("datasets")
pytest.importorskip("transformers", reason="transformers is not installed")


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """The addresses that were looked up or called; none of them answers."""
    seen = []

    def refuse(*where, **values):
        seen.append(where)
        raise socket.gaierror(-2, "no network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    return seen


@pytest.fixture
def file(tmp_path):
    (tmp_path / "rows.csv").write_text("a,label\n" + "1,x\n2,y\n" * 8)
    return str(tmp_path / "rows.csv")


def test_the_fixture_sees_an_access(asked, monkeypatch):
    for name in ("RUNNER_OFFLINE", *_hub.OFFLINE):
        monkeypatch.delenv(name, raising=False)
    assert not _hub.answers("http://huggingface.co")
    assert asked


@pytest.mark.parametrize("offline", [True, False])
def test_local_files_ask_nobody(asked, file, tmp_path, monkeypatch, offline):
    if offline:
        monkeypatch.setenv("RUNNER_OFFLINE", "1")
    model = str(tiny_transformer.write(tmp_path / "bert"))
    assert hub(file, test=None).info.outputs == 2
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": "a film", "label": k % 2}) + "\n" for k in range(10)))
    assert texts(str(tmp_path / "rows.jsonl"), model, test=None, length=16).info.outputs == 2
    _hub.read("AutoModel", model, "model", "model=pretrained", "model.path")
    assert asked == []


@pytest.mark.parametrize("name", ["RUNNER_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_what_is_absent_asks_nobody_where_that_is_forbidden(asked, monkeypatch, name):
    monkeypatch.setenv(name, "1")
    with pytest.raises(UserError, match="is not on this machine"):
        _hub.tokenizer("nobody/nothing-here", "data=texts", "data.tokenizer")
    with pytest.raises(UserError, match="is not on this machine"):
        hub("nobody/nothing-here")
    assert asked == []


def test_the_flags_are_as_before(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with _hub.alone(datasets.config):
        assert constants.HF_HUB_OFFLINE is datasets.config.HF_HUB_OFFLINE is True
    assert (constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE) == (False, True)


def test_a_proxy_that_speaks_no_http_is_no_network(monkeypatch):
    for name in ("RUNNER_OFFLINE", "no_proxy", "NO_PROXY", *_hub.OFFLINE):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            caller, _ = server.accept()
            with caller:
                caller.recv(4096)
                caller.sendall(b"garbage\r\n\r\n")

        threading.Thread(target=serve, daemon=True).start()
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert not _hub.answers("https://huggingface.co")
    assert not _hub.answers("no address")
