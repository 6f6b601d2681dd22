"""cifar10h: test photographs in ten folds to train on, in CIFAR-10's own files, written small; a crowd's answers find their photographs."""

import hashlib
import pickle

import numpy as np
import pytest
import torch

from runner.components.data.cifar10h import build
from runner.components.noise.answers import build as answers


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Files of 20 images each, of which the first value tells which one it is."""
    from torchvision.datasets import CIFAR10

    draw, sums = np.random.default_rng(0), {}
    (tmp_path / "cifar-10-batches-py").mkdir()
    for name, _ in CIFAR10.train_list + CIFAR10.test_list:
        rows = draw.integers(0, 256, (20, 3072), dtype=np.uint8)
        rows[:, 0] = range(20)
        content = pickle.dumps({"data": rows, "labels": [k % 10 for k in range(20)]})
        (tmp_path / "cifar-10-batches-py" / name).write_bytes(content)
        sums[name] = hashlib.md5(content).hexdigest()
    content = pickle.dumps({"label_names": [str(k) for k in range(10)]})
    (tmp_path / "cifar-10-batches-py" / CIFAR10.meta["filename"]).write_bytes(content)
    for part in ("train_list", "test_list"):
        monkeypatch.setattr(CIFAR10, part, [[name, sums[name]] for name, _ in getattr(CIFAR10, part)])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": hashlib.md5(content).hexdigest()})
    return str(tmp_path)


def test_folds(folder):
    held = []
    for fold in range(10):
        data = build(folder, download=False, fold=fold)
        assert (len(data.train), len(data.val), len(data.test)) == (18, 2, 100)
        assert data.train.x[:, 0, 0, 0].tolist() == data.train.side["item"].tolist()
        assert (data.train.y == data.train.side["item"] % 10).all()
        assert not set(data.train.x[:, 0, 0, 0].tolist()) & set(data.val.x[:, 0, 0, 0].tolist())
        held += data.val.x[:, 0, 0, 0].tolist()
    assert sorted(held) == list(range(20))
    assert held != build(folder, download=False, split=1).val.x[:, 0, 0, 0].tolist() + held[2:]


def test_answers_find_their_photographs(folder, tmp_path):
    table = tmp_path / "raw.csv"
    lines = [f"{who},{0 if k >= 0 else 1},{(k + (who == 2)) % 10},{k}" for who in range(3) for k in [*range(20), -99999]]
    table.write_text("annotator_id,is_attn_check,chosen_label,cifar10_test_test_idx\n" + "\n".join(lines) + "\n")
    data = build(folder, download=False, fold=3)
    answers(str(table), ["cifar10_test_test_idx", "annotator_id", "chosen_label"])(data, torch.Generator().manual_seed(0))
    item = data.train.side["item"]
    assert torch.equal(data.train.side["answers"], torch.stack([item % 10, item % 10, (item + 1) % 10], 1))
    assert torch.equal(data.train.y, data.train.clean)  # two of three are right
