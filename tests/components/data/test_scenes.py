"""scenes: a window's label is that of the object it overlaps most, boxes are tight, objects keep apart, and splits hang on nothing but their seed."""

import torch
from torchvision.ops import box_iou

from runner.components.data.scenes import SHAPES, build


def test_labels_are_those_of_the_most_overlapping_objects():
    data = build(train_size=30, test_size=5, val_size=0, size=32)
    boxes, objects, y = torch.tensor(data.info.regions), data.train.side["objects"], data.train.y
    assert (data.info.task, data.info.shape, data.info.outputs, y.shape) == ("detection", (3, 32, 32), len(SHAPES) + 1, (30, len(boxes)))
    assert data.val is None
    for i in range(30):
        there = objects[i][objects[i, :, 0] >= 0]
        iou = box_iou(boxes, there[:, 1:])
        for a in range(len(boxes)):
            assert torch.isclose(iou[a].max(), data.train.side["iou"][i, a])
            assert y[i, a] == (there[iou[a].argmax(), 0] + 1 if iou[a].max() >= 0.5 else 0)
            assert iou[a].max() == 0 or data.train.side["owner"][i, a] == iou[a].argmax()


def test_windows_lie_in_the_image_and_reach_almost_every_object():
    data = build(train_size=300, test_size=1, val_size=0)
    boxes, side = torch.tensor(data.info.regions), data.train.side
    assert boxes.min() >= 0
    assert boxes.max() <= 48 + 1e-4
    there = side["objects"][..., 0] >= 0
    best = torch.zeros(there.shape).scatter_reduce_(1, side["owner"], side["iou"], "amax")
    assert (best[there] >= 0.5).float().mean() > 0.99
    assert (best[~there] == 0).all()


def test_without_noise_an_object_fills_its_box_from_side_to_side():
    data = build(train_size=40, test_size=1, val_size=0, most=1, texture=0.0, noise=0.0)
    shown = data.train.x.abs().amax(1) > 0
    for mask, (c, *box) in zip(shown, data.train.side["objects"][:, 0].tolist(), strict=True):
        rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
        found = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        assert all(abs(float(a) - b) <= 2 for a, b in zip(found, box, strict=True)), (c, found, box)  # tips of a diamond fall between pixels


def test_objects_keep_apart_and_each_scene_has_one():
    objects = build(train_size=100, test_size=1, val_size=0, most=5, overlap=0.05).train.side["objects"]
    there = objects[..., 0] >= 0
    assert there[:, 0].all()
    assert torch.equal(there.int(), there.int().cummin(1)[0])  # absent ones last
    for scene, k in zip(objects, there.sum(1).tolist(), strict=True):
        iou = box_iou(scene[:k, 1:], scene[:k, 1:])
        assert (iou - torch.eye(k)).max() <= 0.05 + 1e-5


def test_the_hue_says_the_class_as_far_as_asked():
    for hue in (1.0, 0.0):
        data = build(train_size=200, test_size=1, val_size=0, most=1, hue=hue, texture=0.0, noise=0.0)
        colours, classes = data.train.x.flatten(2).abs().max(2)[0], data.train.side["objects"][:, 0, 0]
        spread = max(colours[classes == c].std(0).max() for c in range(len(SHAPES)))
        assert spread < 1e-5 if hue else spread > 0.2


def test_the_draw_hangs_on_split_alone_and_sizes_leave_other_splits_alone():
    torch.manual_seed(1)
    first = build(size=16, train_size=9, test_size=6, val_size=3)
    torch.manual_seed(2)
    again = build(size=16, train_size=4, test_size=6, val_size=0)
    assert torch.equal(first.test.x, again.test.x)
    assert not torch.equal(first.test.x, build(size=16, train_size=1, test_size=6, val_size=0, split=1).test.x)


def test_boxes_are_the_same_scenes_without_windows():
    windows, boxes = (build(train_size=5, test_size=2, val_size=0, size=32, boxes=there) for there in (False, True))
    assert (boxes.info.task, boxes.info.regions, boxes.info.outputs) == ("boxes", (), windows.info.outputs)
    assert torch.equal(boxes.train.x, windows.train.x)
    assert torch.equal(boxes.train.side["objects"], windows.train.side["objects"])
    assert boxes.train.y.tolist() == (windows.train.side["objects"][..., 0] + 1).tolist()
