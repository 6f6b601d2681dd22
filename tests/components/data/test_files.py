"""Downloads: whole or not at all, and quick to say no."""

import hashlib
import io
import socket
import tarfile
import time

import pytest

from runner.components.data import _files


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def test_a_file_arrives_once_and_whole(server, tmp_path):
    folder, address = server
    (folder / "a.bin").write_bytes(b"hello" * 1000)
    target = tmp_path / "deep" / "a.bin"
    _files.fetch(f"{address}/a.bin", target, md5(b"hello" * 1000))
    assert target.read_bytes() == b"hello" * 1000
    (folder / "a.bin").unlink()
    _files.fetch(f"{address}/a.bin", target, md5(b"hello" * 1000))  # is there already


@pytest.mark.parametrize("name", ["wrong.bin", "half.cut", "missing.bin"])
def test_what_does_not_arrive_leaves_nothing(server, tmp_path, name):
    folder, address = server
    if name != "missing.bin":
        (folder / name).write_bytes(b"x" * 5000)
    with pytest.raises(OSError, match=r"damaged|broke off|not found"):
        _files.fetch(f"{address}/{name}", tmp_path / "place" / name, md5(b"y"))
    assert not (tmp_path / "place").exists() or not list((tmp_path / "place").iterdir())


def test_an_old_file_survives_a_failed_download(server, tmp_path):
    (tmp_path / "old.bin").write_bytes(b"old")
    with pytest.raises(OSError, match="not found"):
        _files.fetch(f"{server[1]}/old.bin", tmp_path / "old.bin", md5(b"new"))
    assert (tmp_path / "old.bin").read_bytes() == b"old"


def test_no_answer_is_said_soon_and_asked_once(server, tmp_path, monkeypatch):
    monkeypatch.setattr(_files, "TIMEOUT", 0.3)
    start = time.monotonic()
    with pytest.raises(OSError, match="timed out"):
        _files.fetch(f"{server[1]}/a.slow", tmp_path / "a", md5(b""))
    assert time.monotonic() - start < 2
    monkeypatch.setattr(_files.urllib.request, "urlopen", None)  # a second try would fail otherwise
    with pytest.raises(OSError, match="timed out"):
        _files.fetch(f"{server[1]}/a.slow", tmp_path / "a", md5(b""))


def test_nobody_there_and_offline(tmp_path, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(OSError, match="refused"):
        _files.fetch(f"http://127.0.0.1:{port}/a", tmp_path / "a", md5(b""))
    monkeypatch.setenv("RUNNER_OFFLINE", "1")
    with pytest.raises(OSError, match="RUNNER_OFFLINE"):
        _files.fetch(f"http://127.0.0.1:{port}/b", tmp_path / "b", md5(b""))


def test_an_archive_cannot_write_outside_its_folder(tmp_path):
    archive, folder = tmp_path / "a.tar", tmp_path / "folder"
    folder.mkdir()
    with tarfile.open(archive, "w") as bundle:
        entry = tarfile.TarInfo("../out.txt")
        entry.size = 2
        bundle.addfile(entry, io.BytesIO(b"no"))
    with pytest.raises(tarfile.TarError):
        _files.unpack(archive, folder)
    assert not (tmp_path / "out.txt").exists()
    assert not list(folder.iterdir())
