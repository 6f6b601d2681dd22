"""cifar10 and cifar100: files in the published format, written small, read back; the checksums are those of the small files."""

import hashlib
import pickle
import tarfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from runner import UserError
from runner.components.data import cifar10, cifar100

SETS = [("CIFAR10", cifar10.build, "cifar-10-batches-py", "labels", 10), ("CIFAR100", cifar100.build, "cifar-100-python", "fine_labels", 100)]


@pytest.fixture(params=SETS, ids=lambda s: s[0], autouse=True)
def known(request):
    """What the data set is called and how it is laid out: torchvision's class, build, folder, key of the labels, classes."""
    from torchvision import datasets

    name, build, folder, labels, classes = request.param
    return SimpleNamespace(kind=getattr(datasets, name), build=build, folder=folder, labels=labels, classes=classes)


@pytest.fixture
def small(known, tmp_path, monkeypatch):
    """A folder with a small data set, and its arrays: (folder, {file: (rows, labels)})."""
    draw, made, sums = np.random.default_rng(0), {}, {}
    (tmp_path / known.folder).mkdir()
    for name, _ in known.kind.train_list + known.kind.test_list:
        rows, labels = draw.integers(0, 256, (known.classes * 2, 3072), dtype=np.uint8), [k % known.classes for k in range(known.classes * 2)]
        made[name] = (rows, labels)
        sums[name] = _write(tmp_path / known.folder / name, {"data": rows, known.labels: labels})
    meta = known.kind.meta
    sums[meta["filename"]] = _write(tmp_path / known.folder / meta["filename"], {meta["key"]: [str(k) for k in range(known.classes)]})
    for part in ("train_list", "test_list"):
        monkeypatch.setattr(known.kind, part, [[name, sums[name]] for name, _ in getattr(known.kind, part)])
    monkeypatch.setattr(known.kind, "meta", {**meta, "md5": sums[meta["filename"]]})
    return tmp_path, made


def _write(file, content):
    file.write_bytes(pickle.dumps(content))
    return hashlib.md5(file.read_bytes()).hexdigest()


def test_it_reads_what_was_written(known, small):
    folder, made = small
    data = known.build(root=str(folder), download=False, val=0.5)
    everything = {row.numpy().tobytes(): int(y) for s in (data.train, data.val) for row, y in zip(s.x, s.y, strict=True)}
    *training, test = made.values()
    for rows, labels in training:
        for row, label in zip(rows, labels, strict=True):
            assert everything[row.tobytes()] == label  # rows are red, green, blue planes: (3, 32, 32)
    assert torch.equal(data.test.x, torch.from_numpy(test[0]).view(-1, 3, 32, 32))
    assert data.test.y.tolist() == test[1]
    assert (data.info.shape, data.info.outputs) == ((3, 32, 32), known.classes)
    few = known.build(root=str(folder), download=False, train_size=known.classes, test_size=known.classes)
    assert few.train.y.bincount().tolist() == few.test.y.bincount().tolist() == [1] * known.classes


def test_the_model_sees_torchvisions_tensors(known, small):
    from torchvision import transforms

    folder, _ = small
    data = known.build(root=str(folder), download=False, augment="crop_flip")
    mean, std = data.train.transform.mean.flatten(), data.train.transform.std.flatten()
    theirs = known.kind(folder, transform=transforms.Compose([transforms.ToTensor(), transforms.Normalize(mean, std)]))
    rows = torch.tensor([0, 7, 11])
    assert torch.equal(data.train.fetch(rows).x, torch.stack([theirs[int(k)][0] for k in rows]))
    plain = next(data.train.batches(rows, 3, "cpu"))
    shifted = next(data.train.batches(rows, 3, "cpu", torch.Generator().manual_seed(0)))
    assert torch.equal(plain.x, data.train.fetch(rows).x)
    assert not torch.equal(shifted.x, plain.x)
    assert data.test.augment is None


def test_without_normalisation_inputs_are_torchvisions_in_0_to_1(known, small):
    from torchvision import transforms

    folder, _ = small
    theirs = known.kind(folder, train=False, transform=transforms.ToTensor())
    x = known.build(root=str(folder), download=False, normalise=False).test.fetch(torch.arange(len(theirs))).x
    assert torch.equal(x, torch.stack([image for image, _ in theirs]))


def test_what_is_not_there_or_damaged_is_said_on_one_line(known, small, tmp_path, monkeypatch):
    folder, _ = small
    monkeypatch.setenv("RUNNER_OFFLINE", "1")
    for download in (True, False):
        with pytest.raises(UserError, match=r"looked in .*data.root") as error:
            known.build(root=str(tmp_path / "none"), download=download)
        assert "\n" not in str(error.value)
    name = sorted(p.name for p in (folder / known.folder).iterdir())[0]
    (folder / known.folder / name).write_bytes(b"damaged")
    with pytest.raises(UserError, match="looked in"):
        known.build(root=str(folder), download=False)


def test_it_downloads_and_unpacks(known, small, server, tmp_path, monkeypatch):
    folder, _ = small
    archive = server[0] / "small.tar.gz"
    with tarfile.open(archive, "w:gz") as bundle:
        bundle.add(folder / known.folder, known.folder)
    monkeypatch.setattr(known.kind, "url", f"{server[1]}/small.tar.gz")
    monkeypatch.setattr(known.kind, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    there = known.build(root=str(tmp_path / "new"))
    assert torch.equal(there.train.x, known.build(root=str(folder), download=False).train.x)
    (tmp_path / "new" / known.folder / sorted(p.name for p in (folder / known.folder).iterdir())[0]).unlink()
    archive.unlink()
    known.build(root=str(tmp_path / "new"))  # the archive is still there
