import os

import numpy as np
import pytest
import torch

from runner import UserError
from runner.components.noise.file import build
from runner.core.data import Data, Info, Split

LABELS = [2, 0, 1, 1, 2]


def data():
    split = Split(torch.zeros(5, 1), torch.tensor([0, 0, 1, 1, 2]))
    return Data(Info("classification", (1,), 3), split, split)


def written(folder, name):
    """The labels in a file of each kind, written by the library that owns the format."""
    file = folder / name
    if name == "array.pt":  # how CIFAR-10N comes: a dictionary of NumPy arrays
        torch.save({"clean_label": np.array([0, 0, 1, 1, 2]), "worse_label": np.array(LABELS)}, file)
    elif name == "lists.pt":
        torch.save({"worse_label": LABELS}, file)
    elif name == "tensor.pt":
        torch.save(torch.tensor(LABELS, dtype=torch.int32), file)
    elif name == "array.npy":
        np.save(file, np.array(LABELS, dtype=np.uint8))
    elif name == "columns.csv":
        file.write_text("id,worse_label\n" + "".join(f"{k},{y}\n" for k, y in enumerate(LABELS)))
    elif name == "clean.csv":
        file.write_text("clean_label,worse_label\n" + "".join(f"{c},{y}\n" for c, y in zip([0, 0, 1, 1, 2], LABELS, strict=True)))
    elif name == "marked.csv":  # as spreadsheets write it
        file.write_text("\n".join(map(str, LABELS)), encoding="utf-8-sig")
    else:
        file.write_text("\n".join(map(str, LABELS)) + "\n")
    return file


@pytest.mark.parametrize("name", ["array.pt", "lists.pt", "tensor.pt", "array.npy", "columns.csv", "clean.csv", "column.csv", "marked.csv", "column.txt"])
def test_every_format_is_read(tmp_path, name):
    d = data()
    keyed = name in ("array.pt", "lists.pt", "columns.csv", "clean.csv")
    build(str(written(tmp_path, name)), "worse_label" if keyed else None)(d, torch.Generator())
    assert d.train.y.tolist() == LABELS
    assert d.train.clean.tolist() == [0, 0, 1, 1, 2]


def refused(path, key=None):
    d = data()
    with pytest.raises(UserError) as caught:
        build(str(path), key)(d, torch.Generator())
    assert "\n" not in str(caught.value)
    assert d.train.clean is None
    return str(caught.value)


def test_what_does_not_fit_is_said_in_one_line(tmp_path):
    def text(name, content):
        (tmp_path / name).write_text(content)
        return tmp_path / name

    assert "looked for" in refused(tmp_path / "missing.txt")
    assert "holds 2 labels; the training split has 5" in refused(text("short.txt", "1\n2\n"))
    assert "from 0 to 3; the data's classes are 0 to 2" in refused(text("range.txt", "0\n1\n2\n3\n0\n"))
    assert "from -1 to" in refused(text("negative.txt", "0\n1\n2\n-1\n0\n"))
    assert "2 columns" in refused(text("two.csv", "a,b\n1,2\n"))
    assert "invalid literal" in refused(text("words.txt", "0\none\n"))
    assert "must end in" in refused(text("labels.pkl", ""))
    assert "clean_label, worse_label" in refused(written(tmp_path, "array.pt"))
    np.save(tmp_path / "real.npy", np.array([0.5] * 5))
    assert "whole numbers" in refused(tmp_path / "real.npy")
    np.save(tmp_path / "objects.npy", np.array([{}] * 5), allow_pickle=True)
    assert "cannot use" in refused(tmp_path / "objects.npy")


def test_another_order_of_the_samples_is_noticed(tmp_path):
    torch.save({"clean_label": np.array([2, 1, 1, 0, 0]), "worse_label": np.array(LABELS)}, tmp_path / "other.pt")
    assert "another order" in refused(tmp_path / "other.pt", "worse_label")
    (tmp_path / "other.csv").write_text("clean_label,worse_label\n" + "".join(f"{2 - k // 2},{y}\n" for k, y in enumerate(LABELS)))
    assert "another order" in refused(tmp_path / "other.csv", "worse_label")


class Attack:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def test_a_file_cannot_run_code(tmp_path):
    torch.save({"worse_label": Attack(tmp_path / "ran")}, tmp_path / "evil.pt")
    assert "cannot use" in refused(tmp_path / "evil.pt", "worse_label")
    assert not (tmp_path / "ran").exists()
