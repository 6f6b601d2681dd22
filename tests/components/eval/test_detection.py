"""detection: against COCO's own evaluation, and by hand where nothing is found; proposals by hand."""

import contextlib
import io
from types import SimpleNamespace

import pytest
import torch

from runner.components.eval import detection, proposals
from runner.core.data import Batch, Info, Split


def state_of(z, regions):
    def predictions(split):
        for rows in torch.arange(len(split)).split(4):
            yield Batch(split.x[rows], split.y[rows], rows, z=z[rows])

    return SimpleNamespace(info=Info("detection", (3, 40, 40), z.shape[-1], regions=regions), device="cpu", predictions=predictions, per_sample={})


def boxes_of(n, generator):
    corner, size = 24 * torch.rand(n, 2, generator=generator), 6 + 10 * torch.rand(n, 2, generator=generator)
    return torch.cat([corner, corner + size], 1)


def coco_ap50(found, objects, classes):
    """`found`: (image, class, x0, y0, x1, y1, score)."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    wide = lambda x0, y0, x1, y1: [x0, y0, x1 - x0, y1 - y0]
    annotations = [
        {"id": 1 + k, "image_id": i, "category_id": int(c), "bbox": wide(*box), "area": (box[2] - box[0]) * (box[3] - box[1]), "iscrowd": 0}
        for k, (i, c, *box) in enumerate((i, *o.tolist()) for i, scene in enumerate(objects) for o in scene if o[0] >= 0)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {"images": [{"id": i} for i in range(len(objects))], "annotations": annotations, "categories": [{"id": c} for c in range(classes)]}
        truth.createIndex()
        guess = truth.loadRes([{"image_id": i, "category_id": c, "bbox": wide(*box), "score": s} for i, c, *box, s in found])
        run = COCOeval(truth, guess, "bbox")
        run.evaluate()
        run.accumulate()
    precision = run.eval["precision"][0, :, :, 0, -1]  # IoU 0.5; recall x class
    return {c: 100 * precision[:, c].mean() for c in range(classes) if (precision[:, c] >= 0).all()}


@pytest.mark.parametrize("seed", range(3))
def test_average_precision_is_cocos(seed):
    pytest.importorskip("pycocotools", reason="pycocotools is not installed")
    from torchvision.ops import nms

    g = torch.Generator().manual_seed(seed)
    regions, n, classes = boxes_of(60, g), 12, 3
    objects = torch.full((n, 4, 5), -1.0)
    for i in range(n):
        for k in range(1 + i % 4):
            near = regions[torch.randint(60, (), generator=g)] + torch.randn(4, generator=g)  # some region finds it
            objects[i, k] = torch.cat([torch.randint(classes, (1,), generator=g).float(), near])
    z = 2 * torch.randn(n, 60, classes + 1, generator=g)
    split = Split(torch.zeros(n, 1), torch.zeros(n, 60, dtype=torch.long))
    split.side["objects"] = objects
    state = state_of(z, tuple(map(tuple, regions.tolist())))
    found = detection.build(novel=[0]).measure(state, split)
    p, listed = z.softmax(-1), []
    for i in range(n):
        for c in range(classes):
            rows = (p[i, :, c + 1] >= 0.05).nonzero()[:, 0]
            for a in rows[nms(regions[rows], p[i, rows, c + 1], 0.5)]:
                listed.append((i, c, *regions[a].tolist(), float(p[i, a, c + 1])))
    truth = coco_ap50(listed, objects, classes)
    assert found["ap50_novel"] == pytest.approx(truth[0], abs=1e-6)
    assert found["ap50_base"] == pytest.approx((truth[1] + truth[2]) / 2, abs=1e-6)
    assert found["ap50"] == pytest.approx(sum(truth.values()) / 3, abs=1e-6)
    assert 0 < found["ap50"] < 100


def test_all_right_and_nothing_right():
    regions = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30], [5, 25, 15, 35]])
    objects = torch.tensor([[[0.0, 0, 0, 10, 10], [1, 20, 20, 30, 30], [-1, -1, -1, -1, -1]]])
    z = torch.full((1, 3, 3), -9.0)
    z[0, 0, 1] = z[0, 1, 2] = z[0, 2, 0] = 9.0
    split = Split(torch.zeros(1, 1), torch.zeros(1, 3, dtype=torch.long))
    split.side["objects"] = objects
    state = state_of(z, tuple(map(tuple, regions.tolist())))
    assert detection.build().measure(state, split) == {"ap50": pytest.approx(100)}
    state = state_of(z[..., [0, 2, 1]], tuple(map(tuple, regions.tolist())))
    assert detection.build(novel=[1]).measure(state, split) == {"ap50": 0, "ap50_novel": 0, "ap50_base": 0}
    state = state_of(torch.tensor([9.0, -9, -9]).expand(1, 3, 3), tuple(map(tuple, regions.tolist())))
    assert detection.build().measure(state, split) == {"ap50": 0}


def test_a_second_box_of_an_object_is_wrong():
    truth = torch.tensor([[0.0, 0, 10, 10]])
    boxes = torch.tensor([[1.0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 9, 30]])
    assert detection.match(boxes, truth).tolist() == [True, False, False]
    assert detection.match(boxes, truth[:0]).tolist() == [False] * 3


def test_proposals_by_hand():
    """Two scenes of three regions; class 2 is unlabelled, and has an object in each; the first is found twice, with one wrong proposal beside."""
    split = Split(torch.zeros(2, 1), torch.tensor([[2, 2, 0], [1, 2, 0]]))
    split.relabel(torch.tensor([[0, 0, 0], [1, 0, 0]]))
    split.side = {
        "objects": torch.tensor([[[1.0, 0, 0, 0, 0], [-1, 0, 0, 0, 0]], [[0.0, 0, 0, 0, 0], [1, 0, 0, 0, 0]]]),
        "owner": torch.tensor([[0, 0, 0], [0, 1, 1]]),
    }
    state = SimpleNamespace(per_sample={})
    assert proposals.build().measure(state, split) == {}
    state.per_sample["mined"] = torch.tensor([[2, 2, 0], [0, 0, 2]])
    found = {k: float(v) for k, v in proposals.build().measure(state, split).items()}
    assert found == {"pseudo_precision": pytest.approx(200 / 3), "pseudo_used": 1.5, "pseudo_recall": 50}
    state.per_sample["mined"] = torch.zeros(2, 3, dtype=torch.long)
    assert {k: float(v) for k, v in proposals.build().measure(state, split).items()} == {"pseudo_used": 0, "pseudo_recall": 0}


def drawn_detections(generator, n=12, most=20, classes=3):
    """Objects (n, 4, 5), and detections (n, most, 6), many of them near an object, in no order, some absent."""
    objects, z = torch.full((n, 4, 5), -1.0), torch.zeros(n, most, 6)
    for i in range(n):
        boxes = boxes_of(4, generator)
        objects[i, : 1 + i % 4] = torch.cat([torch.randint(classes, (4, 1), generator=generator), boxes], 1)[: 1 + i % 4]
        near = boxes[torch.randint(4, (most,), generator=generator)] + torch.randn(most, 4, generator=generator)
        found = torch.cat([near, torch.rand(most, 1, generator=generator), torch.randint(classes, (most, 1), generator=generator)], 1)
        z[i, : most - i] = found[: most - i]
    return objects, z


@pytest.mark.parametrize("seed", range(3))
def test_average_precision_of_a_models_own_boxes_is_cocos(seed):
    pytest.importorskip("pycocotools", reason="pycocotools is not installed")
    objects, z = drawn_detections(torch.Generator().manual_seed(seed))
    split = Split(torch.zeros(12, 1), objects[..., 0].long() + 1)
    split.side["objects"] = objects
    state = state_of(z, ())
    state.info = Info("boxes", (3, 40, 40), 4)
    listed = [(i, int(d[5]), *d[:5].tolist()) for i, image in enumerate(z) for d in image if d[4] >= 0.05]
    truth, found = coco_ap50(listed, objects, 3), detection.build(novel=[0]).measure(state, split)
    assert found["ap50_novel"] == pytest.approx(truth[0], abs=1e-6)
    assert found["ap50_base"] == pytest.approx((truth[1] + truth[2]) / 2, abs=1e-6)
    assert 0 < found["ap50"] < 100


def test_a_models_own_boxes_by_hand():
    """One object of class 0 and one of class 1; of three boxes of class 0 the second likeliest is right, of class 1 one is right and counts too little."""
    objects = torch.tensor([[[0.0, 0, 0, 10, 10], [1, 20, 20, 30, 30]]])
    boxes = [[50.0, 50, 60, 60, 0.9, 0], [0, 0, 10, 11, 0.8, 0], [0, 0, 10, 10, 0.7, 0], [20, 20, 30, 30, 0.04, 1], [0, 0, 0, 0, 0, 0]]
    split = Split(torch.zeros(1, 1), torch.tensor([[1, 2]]))
    split.side["objects"] = objects
    state = state_of(torch.tensor([boxes]), ())
    state.info = Info("boxes", (3, 80, 80), 3)
    assert detection.build().measure(state, split) == {"ap50": pytest.approx(25)}  # a precision of a half at every recall; nothing
    assert detection.build(least=0.0, novel=[1]).measure(state, split) == {"ap50": pytest.approx(75), "ap50_novel": 100, "ap50_base": pytest.approx(50)}


@pytest.mark.parametrize(("wrong", "ap50"), [(99, 1), (100, 0)])
def test_of_a_class_100_detections_of_an_image_count(wrong, ap50):
    corner = torch.cartesian_prod(20.0 * torch.arange(11), 20.0 * torch.arange(10))[: wrong + 1]
    boxes = torch.cat([corner, corner + 10], 1)  # the last one is the object, and found last
    p = torch.where(torch.arange(wrong + 1) < wrong, 0.8, 0.7)
    split = Split(torch.zeros(1, 1), torch.zeros(1, 1, dtype=torch.long))
    split.side["objects"] = torch.cat([torch.zeros(1), boxes[-1]])[None, None]
    regions = state_of(torch.stack([1 - p, p], 1).log()[None], tuple(map(tuple, boxes.tolist())))
    own = state_of(torch.cat([boxes, p[:, None], torch.zeros(wrong + 1, 1)], 1)[None], ())
    own.info = Info("boxes", (3, 220, 220), 2)
    for state in (regions, own):
        assert detection.build().measure(state, split) == {"ap50": pytest.approx(ap50)}
