"""svhn: .mat files written small, read back; digit 0 is kept as label 10 in the files."""

import hashlib

import numpy as np
import pytest
import torch

from runner import UserError
from runner.components.data.svhn import build


@pytest.fixture
def small(tmp_path, monkeypatch):
    from scipy.io import savemat
    from torchvision.datasets import SVHN

    draw, made, lists = np.random.default_rng(0), {}, {}
    for part, n in (("train", 40), ("test", 20)):
        x, y = draw.integers(0, 256, (32, 32, 3, n), dtype=np.uint8), (np.arange(n) % 10 + 1).reshape(-1, 1).astype(np.uint8)
        file = tmp_path / f"{part}_32x32.mat"
        savemat(file, {"X": x, "y": y})
        made[part], lists[part] = (x, y), [f"http://127.0.0.1:9/{file.name}", file.name, hashlib.md5(file.read_bytes()).hexdigest()]
    monkeypatch.setattr(SVHN, "split_list", lists)
    return tmp_path, made


def test_it_reads_what_was_written(small):
    folder, made = small
    data = build(root=str(folder))
    for split, (x, y) in zip((data.train, data.test), made.values(), strict=True):
        assert np.array_equal(split.x.numpy(), x.transpose(3, 2, 0, 1))
        assert split.y.tolist() == [int(v) % 10 for v in y.flatten()]
    assert build(root=str(folder), train_size=10).train.y.bincount().tolist() == [1] * 10
    assert data.train.fetch(torch.tensor([0])).x.dtype == torch.float32


def test_missing_files_are_said(small, tmp_path):
    with pytest.raises(UserError, match=r"looked in .*none.*data\.root") as error:
        build(root=str(tmp_path / "none"))
    assert "\n" not in str(error.value)
    (tmp_path / "test_32x32.mat").write_bytes(b"damaged")
    with pytest.raises(UserError, match="looked in"):
        build(root=str(tmp_path), download=False)
