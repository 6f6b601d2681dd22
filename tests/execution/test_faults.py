"""A small torture of a sweep; `scripts/torture_sweep.py` does it to 200 jobs."""

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "torture_sweep.py"
FAULTS = ("kill_parent", "kill_worker", "damage_metrics", "damage_plan", "damage_checkpoint", "fill_disk")


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("torture_sweep", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_sweep_survives_faults(script, tmp_path):
    made = script.torture(tmp_path / "torture", jobs=8, seed=0, rounds=len(FAULTS), tmpfs=64, faults=FAULTS)
    assert made.violations == []
    assert made.counts["commands"] >= 3
    assert sum(made.counts[fault] for fault in FAULTS) >= len(FAULTS) - 3  # some may have found nothing to disturb
    assert len(made.finished) == 8


def test_the_torture_sees_what_goes_wrong(script, tmp_path):
    """Records made by hand: each violation is found."""
    made = script.Torture(tmp_path, 8, 0)
    good, bad = '{"finished": 1, "summary": {"a": 1}, "steps": 1, "metrics": "x"}', '{"finished": 2, "summary": {"a": 2}, "steps": 1, "metrics": "x"}'
    for run, metrics, done in (("0" * 12, "m", good), ("1" * 12, "other", good), ("2" * 12, "m", bad), ("3" * 12, "m", None)):
        for store, content in ((made.straight, ("m", good)), (made.broken, (metrics, done))):
            folder = store / run
            folder.mkdir(parents=True)
            for name, text in zip(("metrics.jsonl", "done.json"), content):
                if text:
                    (folder / name).write_text(text)
    (made.broken / ("0" * 12 + ".damaged-1")).mkdir()
    made._watch()
    (made.broken / ("0" * 12) / "done.json").write_text(good.replace('"finished": 1', '"finished": 5'))
    said = tmp_path / "said.txt"
    said.write_text("[1/8] a: done, 1 s\nrunner: b: failed: why\nTraceback (most recent call last):\n")
    made.command = type("Ended", (), {"said": said, "process": type("Process", (), {"returncode": 1, "wait": lambda self: 1})()})()
    made.commands.append(made.command)
    made._check()
    for violation in ("0" * 12 + " was done and ran again", "1" * 12 + " has other metrics", "2" * 12 + " has another summary", "3" * 12 + " is not done",
                      "set aside", "the last command ended with 1", "Traceback"):  # fmt: skip
        assert sum(violation in found for found in made.violations) == 1, violation
    assert len(made.violations) == 7
