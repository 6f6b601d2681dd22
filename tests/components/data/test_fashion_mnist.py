"""fashion_mnist: its IDX reader against torchvision's, its statistics against the images, its errors."""

import gzip
import struct

import pytest
import torch

from runner import UserError
from runner.components.data import _files, fashion_mnist
from runner.components.data.fashion_mnist import DEBIAN, FILES, build, read_idx


def write(folder, n=(40, 20), gz=True):
    """The four files with random images, as bytes by hand."""
    generator = torch.Generator().manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for k, name in enumerate(FILES):
        count = n[k // 2]
        content = torch.randint(256, (count, 28, 28), generator=generator) if "images" in name else torch.arange(count) % 10
        made.append(content)
        head = struct.pack(">4B", 0, 0, 8, content.dim()) + b"".join(struct.pack(">i", s) for s in content.shape)
        raw = head + bytes(content.flatten().tolist())
        (folder / (f"{name}.gz" if gz else name)).write_bytes(gzip.compress(raw) if gz else raw)
    return made


@pytest.mark.parametrize("gz", [True, False])
def test_files_of_a_folder(tmp_path, gz):
    from torchvision.datasets.mnist import read_sn3_pascalvincent_tensor

    place = tmp_path if gz else tmp_path / "FashionMNIST" / "raw"
    made = write(place, gz=gz)
    if not gz:
        assert torch.equal(read_idx(place / FILES[0]), read_sn3_pascalvincent_tensor(str(place / FILES[0])))
    data = build(root=str(tmp_path))
    assert torch.equal(data.train.x[:, 0], made[0].byte())
    assert torch.equal(data.test.y, made[3])
    seen = data.train.fetch(torch.tensor([3])).x
    assert torch.allclose(seen[0, 0], (made[0][3] / 255 - 0.2860) / 0.3530, atol=1e-6)
    flat = build(root=str(tmp_path), flat=True)
    assert torch.equal(flat.train.fetch(torch.tensor([3])).x, seen.reshape(1, 784))
    assert flat.info.shape == (784,)
    small = build(root=str(tmp_path), train_size=20, test_size=10)
    assert small.train.y.bincount().tolist() == [2] * 10
    assert small.test.y.bincount().tolist() == [1] * 10
    with pytest.raises(ValueError, match="flat=false"):
        build(root=str(tmp_path), flat=True, augment="crop_flip")


def test_damaged_and_missing_files_are_said(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"looked in .*apt install") as error:
        build(root=str(tmp_path))
    assert "\n" not in str(error.value)
    write(tmp_path)
    file = tmp_path / f"{FILES[0]}.gz"
    file.write_bytes(file.read_bytes()[:-500])
    with pytest.raises(UserError, match="damaged"):
        build(root=str(tmp_path))
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "none")
    monkeypatch.setattr(fashion_mnist, "cache", lambda: tmp_path / "cache")
    monkeypatch.setenv("RUNNER_OFFLINE", "1")
    with pytest.raises(UserError, match=r"looked in .*RUNNER_OFFLINE"):
        build()


def test_it_downloads_where_it_is_not(server, tmp_path, monkeypatch):
    from torchvision.datasets import FashionMNIST

    made = write(server[0])
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "none")
    monkeypatch.setattr(fashion_mnist, "cache", lambda: tmp_path / "cache")
    monkeypatch.setattr(FashionMNIST, "mirrors", [f"{server[1]}/"])
    monkeypatch.setattr(FashionMNIST, "resources", [(f"{n}.gz", _files.md5_of(server[0] / f"{n}.gz")) for n in FILES])
    assert torch.equal(build().train.x[:, 0], made[0].byte())


@pytest.mark.skipif(not (DEBIAN / f"{FILES[0]}.gz").is_file(), reason="Fashion-MNIST is not on this machine")
def test_the_real_images():
    data = build()
    counts = sum(part.flatten().int().bincount(minlength=256) for part in data.train.x.chunk(20)).double()
    levels = torch.arange(256).double() / 255
    mean = (counts * levels).sum() / counts.sum()
    std = ((counts * (levels - mean) ** 2).sum() / counts.sum()).sqrt()
    assert data.train.y.bincount().tolist() == [6000] * 10
    assert len(data.test) == 10000
    assert abs(mean - 0.2860) < 5e-5
    assert abs(std - 0.3530) < 5e-5
