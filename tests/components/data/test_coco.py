"""coco: a small COCO as it is published, against pycocotools; labels window by window; crowds, odd boxes, classes; what is missing or damaged is said."""

import contextlib
import io
import json

import coco_files
import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from runner import UserError
from runner.components.data.coco import MEAN, STD, build
from runner.components.data.scenes import build as scenes
from runner.execution.assemble import assemble


@pytest.fixture
def coco(tmp_path):
    return coco_files.write(tmp_path)


def edit(root, folder, change):
    file = root / "annotations" / f"instances_{folder}.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


@pytest.mark.parametrize(("split", "folder"), [("train", "train2017"), ("test", "val2017")])
def test_objects_are_those_of_pycocotools(coco, split, folder):
    pytest.importorskip("pycocotools", reason="pycocotools is not installed")
    from pycocotools.coco import COCO

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(coco / "annotations" / f"instances_{folder}.json"))
    data, size = build(str(coco), 32, workers=0), 32
    assert (data.info.task, data.info.shape, data.info.outputs, data.val) == ("detection", (3, 32, 32), 5, None)
    order = {c: k for k, c in enumerate(sorted(truth.getCatIds()))}
    own = {i: truth.loadAnns(truth.getAnnIds([i], iscrowd=False)) for i in sorted(truth.getImgIds())}
    own = {i: found for i, found in own.items() if found}
    there = data.splits()[split].side["objects"]
    assert len(there) == len(own) == len(data.splits()[split])
    for objects, (i, found) in zip(there, own.items(), strict=True):
        image = truth.imgs[i]
        assert (objects[:, 0] >= 0).sum() == len(found)
        for row, a in zip(objects, found, strict=False):
            x, y, w, h = a["bbox"]
            expected = [order[a["category_id"]], *(v * size / s for v, s in zip((x, y, x + w, y + h), (image["width"], image["height"]) * 2, strict=True))]
            assert np.allclose(row.tolist(), expected, atol=1e-4)


def test_windows_stand_for_what_they_overlap_as_in_scenes(coco):
    data = build(str(coco), 32, workers=0)
    boxes, split, other = torch.tensor(data.info.regions), data.train, scenes(train_size=2, test_size=1, val_size=0)
    assert (len(boxes), boxes.min(), boxes.max()) == (848, 0, 32)
    assert split.y.shape == (4, 848)
    assert split.side["image"].tolist() == [65, 72, 79, 100]  # those with objects, in the order of their numbers
    for name, value in other.train.side.items():
        assert (value.dtype, value.dim()) == (split.side[name].dtype, split.side[name].dim())
    assert other.train.y.dtype == split.y.dtype
    for i in range(4):
        there = split.side["objects"][i][split.side["objects"][i, :, 0] >= 0]
        iou = box_iou(boxes, there[:, 1:])
        assert torch.allclose(iou.max(1)[0], split.side["iou"][i])
        for a in range(848):
            assert split.y[i, a] == (there[iou[a].argmax(), 0] + 1 if iou[a].max() >= 0.5 else 0)
            assert iou[a].max() == 0 or split.side["owner"][i, a] == iou[a].argmax()
    assert (split.y > 0).any()


def test_windows_are_a_grid_of_twelve_kinds():
    """By hand, at size 64: the smallest ones of one shape lie 4 pixels apart, 15 in a row; whole ones fill the image or a part of it."""
    from runner.components.data._windows import windows

    assert windows(64, (0.125,), 0.5)[:16].tolist() == [[4.0 * k, 0, 4 * k + 8, 8] for k in range(15)] + [[0, 4, 8, 12]]
    high = 64 * 0.5**0.5
    assert torch.allclose(windows(64, (1.0,), 0.5, (0.5, 1.0)), torch.tensor([[0, 0, 64, high], [0, 64 - high, 64, 64], [0, 0, 64, 64]]))
    assert torch.allclose(windows(64, (0.5,), 0.5, (2.0,))[0], torch.tensor([0, 0, 32 / 2**0.5, 32 * 2**0.5]))


def test_labels_of_boxes_are_those_of_their_objects(coco):
    windows, boxes = build(str(coco), 32, ["dog", "person"], workers=0), build(str(coco), 32, ["dog", "person"], workers=0, boxes=True)
    assert (boxes.info.task, boxes.info.regions, boxes.info.outputs, boxes.info.categories) == ("boxes", (), 3, ("dog", "person"))
    for name, split in boxes.splits().items():
        other = windows.splits()[name]
        assert set(split.side) == {"objects", "image"}
        assert all(torch.equal(value, other.side[key]) for key, value in split.side.items())
        assert split.y.tolist() == [[int(c) + 1 if c >= 0 else 0 for c in scene[:, 0]] for scene in split.side["objects"]]


def test_images_are_stretched_and_normalised(coco):
    from PIL import Image

    data = build(str(coco), 16, workers=0)
    names = ["000000000065.jpg", "000000000072.jpg", "000000000079.jpg", "000000000100.jpg"]  # those with objects, in the order of their numbers
    seen = data.train.fetch(torch.arange(4))
    batch = next(data.train.batches(torch.tensor([3, 0]), 2, "cpu", torch.Generator()))
    assert torch.equal(batch.x, seen.x[[3, 0]])
    assert torch.equal(batch.y, data.train.y[[3, 0]])
    for x, name in zip(seen.x, names, strict=True):
        pixel = torch.tensor(Image.open(coco / "train2017" / name).convert("RGB").getpixel((5, 5)))  # each image is of one colour
        assert x.shape == (3, 16, 16)
        assert torch.allclose(x, ((pixel / 255 - torch.tensor(MEAN)) / torch.tensor(STD))[:, None, None].expand(3, 16, 16), atol=0.02)


def test_classes_choose_and_number_the_objects(coco):
    every, some = build(str(coco), 32, workers=0), build(str(coco), 32, ["dog", "person"], workers=0)
    assert some.info.outputs == 3
    assert (every.info.categories, some.info.categories) == (("person", "car", "dog", "toothbrush"), ("dog", "person"))
    assert not set(some.test.side["objects"][..., 0].flatten().tolist()) - {-1, 0, 1}
    for old, new in ((0, 1), (2, 0)):  # of person, car, dog, toothbrush
        count = lambda data, c: int((data.train.side["objects"][..., 0] == c).sum())
        assert count(every, old) == count(some, new) > 0
    with pytest.raises(UserError, match=r"instances_train2017\.json has no category 'cat'"):
        build(str(coco), 32, ["dog", "cat"])
    with pytest.raises(ValueError, match="names one twice"):
        build(str(coco), 32, ["dog", "dog"])


def test_boxes_without_area_are_no_objects_and_those_that_leave_the_image_end_with_it(coco):
    before = build(str(coco), 32, workers=0).test.side["objects"]

    def change(content):
        own = [a for a in content["annotations"] if a["image_id"] == 100]  # (64, 48), the last by its number
        own[0]["bbox"][2], own[1]["bbox"] = 0, [-3, 6, 35, 60]

    edit(coco, "val2017", change)
    after = build(str(coco), 32, workers=0).test.side["objects"]
    assert torch.equal(after[-1][:3, 1:], torch.cat([torch.tensor([[0, 4, 16, 32.0]]), before[-1][2:4, 1:]]))
    assert (after[-1][3] == -1).all()
    edit(coco, "val2017", lambda content: [a.update(iscrowd=1) for a in content["annotations"]])
    with pytest.raises(UserError, match=r"instances_val2017\.json has no object"):
        build(str(coco), 32)


def test_what_is_missing_or_damaged_is_said(coco, tmp_path):
    with pytest.raises(UserError, match=r"COCO.s annotations .*looked in .*instances_train2017\.json.*data\.root.*cocodataset") as error:
        build(str(tmp_path / "none"))
    assert "\n" not in str(error.value)
    image = coco / "val2017" / "000000000100.jpg"
    whole = image.read_bytes()
    for damage in (whole[: len(whole) // 2], b"", b"no image"):
        image.write_bytes(damage)
        with pytest.raises(UserError, match=r"000000000100\.jpg is damaged") as error:
            build(str(coco), 32, workers=0).test.fetch(torch.tensor([1]))
    image.unlink()
    with pytest.raises(UserError, match=r"val2017, 1 of 2 images, .*looked in .*000000000100\.jpg") as error:
        build(str(coco))
    file = coco / "annotations" / "instances_val2017.json"
    whole = file.read_bytes()
    for damage in (
        whole[:500],
        b"",
        b"[]",
        b"\xff",
        b'{"images": []}',
        whole.replace(b'"bbox"', b'"box"'),
        whole.replace(b'"image_id": 100', b'"image_id": 5'),
    ):
        file.write_bytes(damage)
        with pytest.raises(UserError, match=r"instances_val2017\.json is damaged") as error:
            build(str(coco))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("workers", [0, 1])
def test_it_trains(coco, workers):
    tree = {
        "data": {"name": "coco", "root": str(coco), "size": 32, "workers": workers}, "model": {"name": "region_cnn", "width": 4, "hidden": 8},
        "loss": "ce", "learner": "supervised", "optimizer": "sgd", "schedule": "constant", "sparsity": "none", "softmax": "softmax", "device": "cpu",
        "noise": {"name": "open_vocabulary", "novel": [0, 2]}, "with": {"marvelovd": {"name": "marvelovd", "burn_in": "1it"}},
        "trainer": {"name": "standard", "duration": "2it", "batch_size": 2, "eval_batch": 2},
        "eval": {"detection": {"name": "detection", "novel": [0, 2], "least": 0.0}, "proposals": {"name": "proposals"}},
    }  # fmt: skip
    rows = []
    summary = assemble(tree, rows.append).run()
    assert {"test/ap50_last", "test/ap50_novel_last", "test/ap50_base_last", "train/pseudo_used_last"} <= set(summary)
