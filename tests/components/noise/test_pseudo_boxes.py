"""pseudo_boxes: where boxes go, by hand and by brute force over the file; what labels become; what is missing or damaged is said."""

import json

import coco_files
import pytest
import torch

from runner import UserError
from runner.components.data import coco, scenes
from runner.components.noise.open_vocabulary import build as drawn
from runner.components.noise.pseudo_boxes import build, place

NOVEL = [1, 2]  # car, dog, which the files number 3 and 18
NUMBERS = {3: 2, 18: 3}


def test_places_by_hand():
    regions = torch.tensor([[0, 0, 0.5, 0.5], [0.25, 0.25, 0.75, 0.75], [0, 0, 1, 1]])
    boxes = torch.tensor(
        [
            [4, 0.0, 0.0, 0.5, 0.4, 0.7],  # the first region by 0.8
            [2, 0.0, 0.0, 0.4, 0.5, 0.9],  # as much, and surer
            [3, 0.0, 0.0, 0.5, 0.5, 0.9],  # more, and as sure: the one before it in the file stays
            [1, 0.0, 0.0, 1.0, 0.5, 0.6],  # the first by 0.5 and the last by 0.5: the first has a surer one
            [1, 0.25, 0.25, 0.75, 0.49, 0.99],  # the second by 0.48, too little
            [0, 0.0, 0.0, 0.8, 1.0, 0.55],
        ]
    )
    proposed, score = place(boxes, regions)
    assert proposed.tolist() == [3, 0, 1]
    assert score.tolist() == pytest.approx([0.9, 0, 0.55])


def overlap(a, b):
    """IoU of (x0, y0, x1, y1), by hand."""
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(0, wide) * max(0, high)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


@pytest.mark.parametrize("least", [0.5, 0.8])
def test_a_file_of_the_authors_kind_by_brute_force(tmp_path, least):
    """Pixels of the photographs as they are, window by window, box by box; the images the network sees are stretched."""
    coco_files.write(tmp_path)
    file = coco_files.propose(tmp_path, [3, 18], each=12)
    data, size = coco.build(str(tmp_path), 48, workers=0), 48
    build(str(file), NOVEL, least)(data, torch.Generator())
    content, side = json.loads(file.read_text()), data.train.side
    sides = {i["id"]: (i["width"], i["height"]) for i in content["images"]}
    rivals = 0
    for k, image in enumerate((65, 72, 79, 100)):
        wide, high = sides[image]
        regions = [(x0 * wide / size, y0 * high / size, x1 * wide / size, y1 * high / size) for x0, y0, x1, y1 in data.info.regions]
        wanted, sure = [0] * len(regions), [0.0] * len(regions)
        for a in content["annotations"]:
            if a["image_id"] != image or a.get("confidence", 0) < least:
                continue
            x, y, w, h = a["bbox"]
            found = [overlap((x, y, x + w, y + h), region) for region in regions]
            best = max(range(len(regions)), key=found.__getitem__)
            if found[best] >= 0.5:
                rivals += wanted[best] > 0
                if a["confidence"] > sure[best]:
                    wanted[best], sure[best] = NUMBERS[a["category_id"]], a["confidence"]
        assert any(wanted)
        assert side["proposed"][k].tolist() == wanted
        assert side["score"][k].tolist() == pytest.approx(sure)
    assert rivals or least > 0.5


def test_labels_are_as_where_proposals_are_drawn(tmp_path):
    coco_files.write(tmp_path)
    file = coco_files.propose(tmp_path, [3, 18])
    ours, theirs = coco.build(str(tmp_path), 48, workers=0), coco.build(str(tmp_path), 48, workers=0)
    build(str(file), NOVEL)(ours, torch.Generator())
    drawn(NOVEL)(theirs, torch.Generator().manual_seed(0))
    assert (ours.train.y != ours.train.clean).any()
    assert torch.equal(ours.train.y, theirs.train.y)
    assert torch.equal(ours.train.clean, theirs.train.clean)
    assert ours.test.clean is None
    for name in ("proposed", "score"):
        assert ours.train.side[name].dtype == theirs.train.side[name].dtype
        assert ours.train.side[name].shape == theirs.train.side[name].shape


def test_what_is_missing_or_damaged_is_said(tmp_path):
    coco_files.write(tmp_path)
    file = coco_files.propose(tmp_path, [3, 18])

    def fails(message, path=file, data=None, **options):
        data = data or coco.build(str(tmp_path), 48, workers=0)
        with pytest.raises(UserError, match=message) as error:
            build(str(path), **{"novel": NOVEL, **options})(data, torch.Generator())
        assert "\n" not in str(error.value)

    fails(r"looked in .*none\.json; set noise\.path", tmp_path / "none.json")
    fails(r"needs side\['image'\].*data=coco", data=scenes.build(train_size=2, test_size=1, val_size=0))
    fails(r"noise\.novel=4 is no class; the data has 0 to 3", novel=[4])
    fails(r"proposes nothing: .*1\.0 or more", least=1.0)
    fails(r"instances_train2017\.json proposes nothing", tmp_path / "annotations" / "instances_train2017.json")  # people's labels have no score
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "categories": [c for c in content["categories"] if c["name"] != "dog"], "annotations": []}))
    fails("no category 'dog', which noise.novel asks for; it has person, car")
    file.write_text(json.dumps({**content, "annotations": [{**a, "image_id": 7 * a["image_id"]} for a in content["annotations"]]}))
    fails(r"train_novel_candidate_0\.5\.json is damaged")
    file.write_text(json.dumps({**content, "images": [{**i, "id": i["id"] + 1000} for i in content["images"]],
                                "annotations": [{**a, "image_id": a["image_id"] + 1000} for a in content["annotations"]]}))  # fmt: skip
    fails("proposes nothing: .* in the data's images")
    whole = json.dumps(content)
    for damage in (whole[:500], "", "[]", "{}", whole.replace('"bbox"', '"box"'), whole.replace('"confidence": 0.', '"confidence": "0.', 1),
                   json.dumps({**content, "annotations": [{**a, "bbox": [float("nan")] * 4} for a in content["annotations"]]})):  # fmt: skip
        file.write_text(damage)
        fails(r"train_novel_candidate_0\.5\.json is damaged, or has not the format")


def test_boxes_stay_as_they_are_where_data_have_no_windows(tmp_path):
    """Pixel by pixel from the file; a box without area is none."""
    coco_files.write(tmp_path)
    file, size = coco_files.propose(tmp_path, [3, 18], each=5), 48
    content = json.loads(file.read_text())
    flat = next(a for a in content["annotations"] if a.get("confidence", 0) > 0.6 and a["image_id"] == 65)
    flat["bbox"][3] = 0
    file.write_text(json.dumps(content))
    data = coco.build(str(tmp_path), size, workers=0, boxes=True)
    build(str(file), NOVEL, 0.6)(data, torch.Generator())
    sides, side, count = {i["id"]: (i["width"], i["height"]) for i in content["images"]}, data.train.side, 0
    assert set(side) == {"objects", "image", "proposals"}
    for image, proposals in zip(side["image"].tolist(), side["proposals"], strict=True):
        own = [a for a in content["annotations"] if a["image_id"] == image and a.get("confidence", 0) >= 0.6 and a is not flat]
        count += len(own)
        assert (proposals[len(own) :] == -1).all()
        for row, a in zip(proposals, own, strict=False):
            (wide, high), (x, y, w, h) = sides[image], a["bbox"]
            scaled = [x * size / wide, y * size / high, (x + w) * size / wide, (y + h) * size / high]
            assert row.tolist() == pytest.approx([NUMBERS[a["category_id"]] - 1, *scaled, a["confidence"]], abs=1e-4)
    assert count > 4
    assert set(data.train.y.unique().tolist()) == {0, 1, 4}
    assert torch.equal(data.train.clean, data.train.side["objects"][..., 0].long() + 1)
    with pytest.raises(UserError, match=r"proposes nothing: .*in the data's images$"):
        build(str(file), NOVEL, 1.0)(coco.build(str(tmp_path), size, workers=0, boxes=True), torch.Generator())
