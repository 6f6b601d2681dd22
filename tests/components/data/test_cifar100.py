"""cifar100: files in the published format, written small, read back; the checksums are those of the small files."""

import hashlib
import pickle
import tarfile

import numpy as np
import pytest
import torch

from runner import UserError
from runner.components.data.cifar100 import build

FOLDER, LABELS = "cifar-100-python", "fine_labels"


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A folder with a small CIFAR-100, and its arrays: (folder, {file: (rows, labels)})."""
    from torchvision.datasets import CIFAR100

    draw, made, sums = np.random.default_rng(0), {}, {}
    (tmp_path / FOLDER).mkdir()
    for name, _ in CIFAR100.train_list + CIFAR100.test_list:
        rows, labels = draw.integers(0, 256, (100 * 2, 3072), dtype=np.uint8), [k % 100 for k in range(100 * 2)]
        made[name] = (rows, labels)
        sums[name] = _write(tmp_path / FOLDER / name, {"data": rows, LABELS: labels})
    meta = CIFAR100.meta
    sums[meta["filename"]] = _write(tmp_path / FOLDER / meta["filename"], {meta["key"]: [str(k) for k in range(100)]})
    for part in ("train_list", "test_list"):
        monkeypatch.setattr(CIFAR100, part, [[name, sums[name]] for name, _ in getattr(CIFAR100, part)])
    monkeypatch.setattr(CIFAR100, "meta", {**meta, "md5": sums[meta["filename"]]})
    return tmp_path, made


def _write(file, content):
    file.write_bytes(pickle.dumps(content))
    return hashlib.md5(file.read_bytes()).hexdigest()


def test_it_reads_what_was_written(small):
    folder, made = small
    data = build(root=str(folder), download=False, val=0.5)
    everything = {row.numpy().tobytes(): int(y) for s in (data.train, data.val) for row, y in zip(s.x, s.y, strict=True)}
    *training, test = made.values()
    for rows, labels in training:
        for row, label in zip(rows, labels, strict=True):
            assert everything[row.tobytes()] == label  # rows are red, green, blue planes: (3, 32, 32)
    assert torch.equal(data.test.x, torch.from_numpy(test[0]).view(-1, 3, 32, 32))
    assert data.test.y.tolist() == test[1]
    assert (data.info.shape, data.info.outputs) == ((3, 32, 32), 100)
    few = build(root=str(folder), download=False, train_size=100, test_size=100)
    assert few.train.y.bincount().tolist() == few.test.y.bincount().tolist() == [1] * 100


def test_the_model_sees_torchvisions_tensors(small):
    from torchvision import datasets, transforms

    folder, _ = small
    data = build(root=str(folder), download=False, augment="crop_flip")
    mean, std = data.train.transform.mean.flatten(), data.train.transform.std.flatten()
    theirs = datasets.CIFAR100(folder, transform=transforms.Compose([transforms.ToTensor(), transforms.Normalize(mean, std)]))
    rows = torch.tensor([0, 7, 11])
    assert torch.equal(data.train.fetch(rows).x, torch.stack([theirs[int(k)][0] for k in rows]))
    plain = next(data.train.batches(rows, 3, "cpu"))
    shifted = next(data.train.batches(rows, 3, "cpu", torch.Generator().manual_seed(0)))
    assert torch.equal(plain.x, data.train.fetch(rows).x)
    assert not torch.equal(shifted.x, plain.x)
    assert data.test.augment is None


def test_what_is_not_there_or_damaged_is_said_on_one_line(small, tmp_path, monkeypatch):
    folder, _ = small
    monkeypatch.setenv("RUNNER_OFFLINE", "1")
    for download in (True, False):
        with pytest.raises(UserError, match=r"looked in .*data.root") as error:
            build(root=str(tmp_path / "none"), download=download)
        assert "\n" not in str(error.value)
    name = sorted(p.name for p in (folder / FOLDER).iterdir())[0]
    (folder / FOLDER / name).write_bytes(b"damaged")
    with pytest.raises(UserError, match="looked in"):
        build(root=str(folder), download=False)


def test_it_downloads_and_unpacks(small, server, tmp_path, monkeypatch):
    from torchvision.datasets import CIFAR100

    folder, _ = small
    archive = server[0] / "small.tar.gz"
    with tarfile.open(archive, "w:gz") as bundle:
        bundle.add(folder / FOLDER, FOLDER)
    monkeypatch.setattr(CIFAR100, "url", f"{server[1]}/small.tar.gz")
    monkeypatch.setattr(CIFAR100, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    there = build(root=str(tmp_path / "new"))
    assert torch.equal(there.train.x, build(root=str(folder), download=False).train.x)
    (tmp_path / "new" / FOLDER / sorted(p.name for p in (folder / FOLDER).iterdir())[0]).unlink()
    archive.unlink()
    build(root=str(tmp_path / "new"))  # the archive is still there
