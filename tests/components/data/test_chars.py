"""chars: windows read back are the text of the files, targets are the next character, no file is in two splits."""

import sysconfig
from pathlib import Path

import pytest
import torch

from runner import UserError
from runner.components.data import chars
from runner.components.data.chars import build


def text(split):
    """The characters of the windows one after the other, by way of the targets."""
    return chr(int(split.x[0, 0])) + "".join(map(chr, split.y.flatten().tolist()))


def test_windows_are_the_library(tmp_path):
    data = build(length=32, size=20000, held_out=3000)
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    first = files[0].read_text().encode("ascii", "ignore").decode()
    assert first[:15000].startswith(text(data.train)[:15000]) or text(data.train).startswith(first[:15000])
    assert len(text(data.train)) == (20000 - 1) // 32 * 32 + 1
    for split in data.splits().values():
        assert torch.equal(split.x[:, 1:], split.y[:, :-1])
        assert torch.equal(split.x[1:, 0], split.y[:-1, -1])
    assert text(data.test)[:500] in files[9].read_text().encode("ascii", "ignore").decode()
    assert text(data.val)[:500] in files[8].read_text().encode("ascii", "ignore").decode()


def test_other_characters_are_left_out_and_files_are_apart(tmp_path, monkeypatch):
    for k in range(20):
        (tmp_path / f"m{k:02}.py").write_text(f"{chr(97 + k)}é" * 40, encoding="utf-8")
    monkeypatch.setattr(chars.sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    data = build(length=10)
    seen = [set(text(s)) for s in (data.train, data.test, data.val)]
    assert seen == [set("abcdefgh") | set("klmnopqr"), {"j", "t"}, {"i", "s"}]
    with pytest.raises(ValueError, match="length=500"):
        build(length=500)


def test_a_library_without_sources_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(chars.sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    with pytest.raises(UserError, match="looked in"):
        build()
