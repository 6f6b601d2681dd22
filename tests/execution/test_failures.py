"""What goes wrong before or while a run trains is one line, and its record says the same."""

import errno
import json
import resource
import sys

import numpy as np
import pytest
import torch

from runner.config.bind import bind
from runner.core.errors import UserError
from runner.execution.checkpoint import Checkpoints
from runner.execution.record import Record
from runner.execution.run import Failed, execute
from runner.report.display import Silent

SIZE, EACH = 8, 70
KEPT = []  # a run that is collected as garbage waits long for its workers; at the end of the process they stop at once


def config(store, data, **model):
    return bind({
        "data": data, "model": {"name": "mlp", "width": 8, **model}, "loss": "ce", "learner": "supervised", "optimizer": "sgd", "device": "cpu",
        "schedule": "constant", "noise": "none", "sparsity": "none", "softmax": "softmax", "eval": {"accuracy": {"name": "accuracy"}},
        "trainer": {"name": "standard", "duration": "1ep", "batch_size": 20}, "store": str(store), "display": "none",
    })  # fmt: skip


def test_a_model_that_finds_no_memory_is_one_line_on_record(tmp_path, monkeypatch):
    made = config(tmp_path, "digits", width=10**14)
    with pytest.raises(Failed, match=r"^RuntimeError: .*; see .*failed\.json, or set RUNNER_TRACEBACK=1$") as error:
        execute(made, Silent())
    assert "\n" not in str(error.value)
    failed = json.loads(Record(made).file("failed.json").read_text())
    assert failed["error"] in str(error.value)
    assert "torch.empty" in failed["traceback"]
    assert Record(made).state == "failed"
    monkeypatch.setenv("RUNNER_TRACEBACK", "1")
    with pytest.raises(RuntimeError):
        execute(made, Silent())


@pytest.fixture
def images(tmp_path):
    """ROOT of two classes of 70 training images each, of which the first and third, but not the second, tell the data's fingerprint."""
    from PIL import Image

    draw = np.random.default_rng(0)
    for part, count in (("train", EACH), ("val", 2)):
        for c in range(2):
            place = tmp_path / "images" / part / f"class{c}"
            place.mkdir(parents=True)
            for k in range(count):
                Image.fromarray(draw.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)).save(place / f"{k:02d}.png")
    return tmp_path / "images"


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("number", [0, 1])
def test_a_damaged_image_is_named_in_one_line(images, tmp_path, workers, number):
    file = images / "train" / "class0" / f"{number:02d}.png"
    file.write_bytes(file.read_bytes()[:60])
    data = {"name": "image_folder", "root": str(images), "size": SIZE, "resize": SIZE, "workers": workers}
    made = config(tmp_path / "store", data)
    with pytest.raises(UserError, match=rf"^{file} cannot be read as an image: .*; remove it") as error:
        execute(made, Silent())
    KEPT.append(error)
    assert "\n" not in str(error.value)
    record = Record(made)
    assert record.file("failed.json").exists() == bool(number)  # the first is read before the record is begun
    if number:
        assert json.loads(record.file("failed.json").read_text())["error"] == str(error.value)


@pytest.mark.skipif(sys.platform == "win32", reason="no limits")
@pytest.mark.parametrize("size", [500, 100_000])
def test_a_disk_that_takes_no_more_is_what_a_checkpoint_says(tmp_path, size):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        with pytest.raises(OSError, match="File too large") as error:
            Checkpoints(tmp_path / "checkpoints", 1.0).save(1, {"weights": [torch.zeros(30_000) for _ in range(3)]})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert error.value.errno == errno.EFBIG
    assert not list((tmp_path / "checkpoints").iterdir())
