"""A small COCO as it is published, and boxes that a model proposed for it as the authors of MarvelOVD keep them."""

import json
from pathlib import Path

import numpy as np

CATEGORIES = {18: "dog", 1: "person", 3: "car", 90: "toothbrush"}  # in no order, with holes, as in the files
SIZES = ((64, 48), (40, 60), (33, 57), (64, 64))


def write(root: Path, categories: dict[int, str] = CATEGORIES, used: tuple[int, ...] = ()) -> Path:
    """6 and 4 images, of which the second has a crowd alone, and the third nothing at all; numbers of images in no order. Objects are of categories `used`."""
    from PIL import Image

    draw, number = np.random.default_rng(0), iter(range(1, 1000))
    (root / "annotations").mkdir()
    for folder, n in (("train2017", 6), ("val2017", 4)):
        (root / folder).mkdir()
        images, annotations = [], []
        for k in range(n):
            wide, high = SIZES[k % 4]
            images.append({"id": 100 - 7 * k, "file_name": f"{100 - 7 * k:012}.jpg", "width": wide, "height": high})
            colour = tuple(draw.integers(0, 256, 3).tolist())
            Image.new("RGB" if k else "L", (wide, high), colour if k else colour[0]).save(root / folder / images[-1]["file_name"], quality=95)
            for j in range(0 if k == 2 else 1 if k == 1 else 5):
                w, h = draw.uniform(0.05, 0.9) * wide, draw.uniform(0.05, 0.9) * high
                x, y = draw.uniform(0, wide - w), draw.uniform(0, high - h)
                annotations.append(
                    {"id": next(number), "image_id": 100 - 7 * k, "category_id": int(draw.choice([*(used or categories)])), "bbox": [x, y, w, h],
                     "area": w * h, "iscrowd": int(k == 1 or j == 4), "segmentation": []}
                )  # fmt: skip
        content = {"images": images, "annotations": annotations, "categories": [{"id": c, "name": name} for c, name in categories.items()]}
        (root / "annotations" / f"instances_{folder}.json").write_text(json.dumps(content))
    return root


def propose(root: Path, classes: list[int], each: int = 6, seed: int = 1) -> Path:
    """The training file with the annotations of other categories and, for every image, `each` boxes of these with a `confidence` of 0.3 to 1."""
    draw = np.random.default_rng(seed)
    content = json.loads((root / "annotations" / "instances_train2017.json").read_text())
    annotations = [a for a in content["annotations"] if a["category_id"] not in classes]
    for image in content["images"]:
        for _ in range(each):
            w, h = draw.uniform(0.15, 1, 2) * (image["width"], image["height"])
            x, y = draw.uniform(0, 1, 2) * (image["width"] - w, image["height"] - h)
            sure = float(draw.uniform(0.3, 1))
            annotations.append(
                {"id": -len(annotations) - 1, "image_id": image["id"], "category_id": int(draw.choice(classes)), "bbox": [x, y, w, h], "area": 0, "iscrowd": 0,
                 "segmentation": [[]], "confidence": sure, "clip_score": sure, "rpn_score": 0.5, "thing_isBase": False, "thing_isNovel": True}
            )  # fmt: skip
    file = root / "annotations" / "open_voc" / "train_novel_candidate_0.5.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps({**content, "annotations": annotations}))
    return file
