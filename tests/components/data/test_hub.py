"""hub: local files of every kind give back what was written; what is wrong with them is said; no network is noticed at once."""

import io
import json
import time

import numpy as np
import pytest
import torch

from runner import UserError
from runner.components.data.hub import build

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setenv("RUNNER_OFFLINE", "1")
    datasets.disable_progress_bars()


def rows(n=40):
    draw = np.random.default_rng(0)
    a, b = draw.normal(3, 2, n), draw.integers(0, 9, n)
    return {"a": a.tolist(), "b": b.tolist(), "kind": ["cat" if k % 4 else "ant" for k in range(n)]}


def write(folder, suffix, table):
    file = folder / f"rows{suffix}"
    made = datasets.Dataset.from_dict(table)
    if suffix == ".csv":
        lines = [",".join(table), *(",".join(map(str, r)) for r in zip(*table.values(), strict=True))]
        file.write_text("\n".join(lines))
    elif suffix in (".json", ".jsonl"):
        file.write_text("\n".join(json.dumps(dict(zip(table, r, strict=True))) for r in zip(*table.values(), strict=True)))
    elif suffix == ".parquet":
        made.to_parquet(file)
    else:
        made.save_to_disk(folder / "saved")
        return folder / "saved" if suffix == "" else next((folder / "saved").glob("*.arrow"))
    return file


@pytest.mark.parametrize("suffix", [".csv", ".json", ".jsonl", ".parquet", ".arrow", ""])
def test_numbers_of_a_local_file(tmp_path, same_table, suffix):
    table = rows()
    data = build(str(write(tmp_path, suffix, table)), label="kind", test=None, share=0.25)
    x, y = np.column_stack([table["a"], table["b"]]), np.array([k == "cat" for k in table["kind"]])
    same_table(data, x, y)
    assert (data.info.shape, data.info.outputs, len(data.test)) == ((2,), 2, 10)
    assert data.test.y.bincount().tolist() == [2, 8]  # a quarter of 10 and of 30, rounded


def test_regression_and_vectors(tmp_path):
    draw = np.random.default_rng(0)
    table = {"v": draw.normal(size=(30, 4)).tolist(), "goal": draw.normal(size=30).tolist()}
    data = build(str(write(tmp_path, ".parquet", table)), label="goal", test=None, task="regression", train_size=16)
    assert (data.info.shape, data.info.outputs, len(data.train)) == ((4,), 1, 16)
    with pytest.raises(UserError, match="task=regression"):
        build(str(write(tmp_path, ".parquet", table)), label="goal", test=None)


@pytest.fixture
def pictures(tmp_path):
    """A saved data set with splits train, test and val, class names, and 5x6 colour images."""
    from PIL import Image

    draw, made, parts = np.random.default_rng(0), {}, {}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["x", "y", "z"])})
    for name, n in (("train", 12), ("test", 6), ("extra", 3)):
        made[name] = draw.integers(0, 256, (n, 5, 6, 3), dtype=np.uint8)
        encoded = []
        for array in made[name]:
            file = io.BytesIO()
            Image.fromarray(array).save(file, "png")
            encoded.append({"bytes": file.getvalue(), "path": None})
        parts[name] = datasets.Dataset.from_dict({"image": encoded, "label": [k % 3 for k in range(n)]}, features)
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "pictures")
    return str(tmp_path / "pictures"), made


def test_images_and_named_splits(pictures):
    path, made = pictures
    data = build(path, val="extra")
    assert np.array_equal(data.train.x.numpy(), made["train"].transpose(0, 3, 1, 2))
    assert np.array_equal(data.val.x.numpy(), made["extra"].transpose(0, 3, 1, 2))
    assert (data.info.shape, data.info.outputs) == ((3, 5, 6), 3)
    seen = data.test.fetch(torch.tensor([2])).x
    assert torch.allclose(seen[0], torch.from_numpy(made["test"][2]).permute(2, 0, 1) / 127.5 - 1, atol=1e-6)
    assert build(path, train_size=6).train.y.bincount().tolist() == [2, 2, 2]


def saved(folder, **parts):
    """A data set whose splits hold these images, arrays."""
    from PIL import Image

    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["x", "y"])})
    made = {k: {"image": [Image.fromarray(a) for a in arrays], "label": [n % 2 for n in range(len(arrays))]} for k, arrays in parts.items()}
    datasets.DatasetDict({k: datasets.Dataset.from_dict(v, features) for k, v in made.items()}).save_to_disk(folder)
    return str(folder)


def test_images_of_all_splits_are_of_one_shape(tmp_path):
    draw = lambda *shape: np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    data = build(saved(tmp_path / "one", train=draw(4, 5, 6), test=draw(2, 5, 6, 3)))
    assert data.info.shape == tuple(data.test.x.shape[1:]) == (3, 5, 6)
    assert np.array_equal(data.train.x.numpy(), np.repeat(draw(4, 5, 6)[:, None], 3, 1))
    assert build(saved(tmp_path / "two", train=draw(4, 5, 6, 3), test=draw(2, 5, 6))).test.x.shape == (2, 3, 5, 6)
    with pytest.raises(UserError, match=r"several shapes: \(1, 5, 6\), \(1, 7, 6\)"):
        build(saved(tmp_path / "three", train=draw(4, 5, 6), test=draw(2, 7, 6)))
    with pytest.raises(UserError, match="more than 8 bits"):
        build(saved(tmp_path / "four", train=draw(4, 5, 6).astype(np.uint16) * 257, test=draw(2, 5, 6)))


def test_mistakes_are_said(tmp_path, pictures):
    file = str(write(tmp_path, ".parquet", rows()))
    for options, said in (
        ({"label": "kind"}, "no split 'test', it has: train"),
        ({"label": "sort", "test": None}, "no column 'sort' in its split 'train', it has: a, b, kind"),
        ({"label": "b", "test": None}, "column 'kind' is not numbers"),
        ({"label": "kind", "test": None, "inputs": ["c"]}, "no column 'c'"),
    ):
        with pytest.raises(UserError, match=said):
            build(file, **options)
    (tmp_path / "rows.txt").write_text("")
    with pytest.raises(UserError, match="known kind"):
        build(str(tmp_path / "rows.txt"))


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("bad.csv", "a,label\n1,0\n1,2,3,4\n", "Expected 2 fields in line 3, saw 4"),
        ("bad.jsonl", "{nope\n", "JSON parse error"),
        ("empty.csv", "", "No columns"),
        ("head.csv", "a,label\n", "no data"),
        ("bad.parquet", "PAR1 no", "Parquet file size"),
    ],
)
def test_a_damaged_file_is_said_to_be_one(tmp_path, name, content, why):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=rf"^data set '.*{name}' cannot be read: .*{why}") as error:
        build(str(tmp_path / name), test=None)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("rows", "test", "said"), [(1, None, "1 rows to train on and 0 to test on"), (1, "train", "1 rows to train on"), (2, None, "0 to test on")]
)
def test_too_few_rows_are_said(tmp_path, rows, test, said):
    (tmp_path / "few.csv").write_text("a,label\n" + "".join(f"{k},{k}\n" for k in range(rows)))
    with pytest.raises(UserError, match=said):
        build(str(tmp_path / "few.csv"), test=test)


def test_a_name_that_cannot_be_had_is_said_at_once():
    from huggingface_hub import constants

    before, start = constants.HF_HUB_OFFLINE, time.monotonic()
    with pytest.raises(UserError, match=r"looked in .*the hub.*data\.path") as error:
        build("nobody/nothing-here")
    assert time.monotonic() - start < 5
    assert "\n" not in str(error.value)
    assert before == constants.HF_HUB_OFFLINE


def test_an_address_that_does_not_answer_is_noticed(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.delenv("RUNNER_OFFLINE")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    start = time.monotonic()
    with pytest.raises(UserError, match="looked in"):
        build("nobody/nothing-here")
    assert time.monotonic() - start < 5
