"""Recipes at scale=paper whose data or networks are files: two steps on small files of the same kinds."""

import pytest
import tiny_vit

from runner.config import compose
from runner.config.bind import bind
from runner.execution.assemble import assemble

pytest.importorskip("transformers", reason="transformers is not installed")


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setenv("RUNNER_OFFLINE", "1")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return tiny_vit.write(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def composed():
    with compose.composer() as call:
        yield lambda *overrides: bind(call(compose.rewrite([*overrides, "scale=paper", "device=cpu", "threads=1"])))


def test_ni_erm(composed, encoder):
    changed = ("data=digits_images", "noise=symmetric", f"model.path={encoder}", "model.size=32", "trainer.duration=2it")
    loop = assemble(composed("+recipe=noise/ni_erm", *changed))
    start = loop.state.weights()
    assert 0 < loop.run()["test/acc_last"] < 100
    moved = {name for name, w in loop.state.weights().items() if not w.equal(start[name])}
    assert moved == {"head.weight", "head.bias"}
    assert loop.state.per_sample["linear_probe"].isfinite().all(1).sum() == 2 * 128
