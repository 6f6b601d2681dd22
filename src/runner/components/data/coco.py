"""COCO: photographs with boxes of 80 classes, and a grid of windows over each; read and resized by worker processes."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import transforms

from runner import UserError, card
from runner.components.data._files import absent
from runner.components.data._windows import each, labels, stand_for, windows
from runner.core.data import Data, Info, LoadedSplit

CARD = card(
    arxiv="1405.0312",
    source="Lin et al. 2014; files as cocodataset.org publishes them; crowds, boxes without area and images without objects are left out as detectron2 does in "
    "training (filter_images_with_only_crowd_annotations, filter_empty_instances); three shapes of windows as the anchors of its Base-RCNN-FPN.yaml",
    tasks=("detection", "boxes"),
)
SPLITS = {"train": "train2017", "test": "val2017"}
SIDES, STEP, RATIOS = (0.125, 0.25, 0.5, 1.0), 0.5, (0.5, 1.0, 2.0)  # 848 windows
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HOW = "set data.root to the folder of annotations/instances_*2017.json, train2017/*.jpg and val2017/*.jpg from cocodataset.org/#download"


@dataclass(frozen=True)
class Named(Info):
    """What is known of the data, the names of the classes of objects in the order of their numbers, and what images in [0, 1] were normalised by."""

    categories: tuple[str, ...] = field(default=(), repr=False)
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD


class Photographs(Dataset):
    def __init__(self, files: list[Path]):
        self.files = files

    def __len__(self):
        return len(self.files)

    def __getitem__(self, k):
        try:
            return Image.open(self.files[k]).convert("RGB"), 0
        except OSError as error:
            raise UserError(f"{self.files[k]} is damaged, or no image; remove it and get it again") from error


def read(file: Path) -> tuple[list[str], list[tuple[int, str, list]]]:
    """Categories in the order of their numbers, and of each image, by its own, that, its file's name and [category, x0, y0, x1, y1] in shares of its sides."""
    if not file.is_file():
        raise absent("the file of COCO's annotations", [file], HOW)
    try:
        found = json.loads(file.read_bytes())
        names = {c["id"]: c["name"] for c in sorted(found["categories"], key=lambda c: c["id"])}
        images = {i["id"]: (i["file_name"], i["width"], i["height"], []) for i in sorted(found["images"], key=lambda i: i["id"])}
        for a in found["annotations"]:
            _, wide, high, objects = images[a["image_id"]]
            x, y, w, h = a["bbox"]
            x0, y0, x1, y1 = max(0, x / wide), max(0, y / high), min(1, (x + w) / wide), min(1, (y + h) / high)
            if not a["iscrowd"] and x0 < x1 and y0 < y1:
                objects.append([names[a["category_id"]], x0, y0, x1, y1])
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        raise UserError(f"{file} is damaged, or has not the format of COCO's instances ({error!r}); remove it and get it again") from error
    return list(names.values()), [(i, name, objects) for i, (name, _, _, objects) in images.items()]


def load(root: Path, folder: str, classes: list[str] | None, size: int, regions: Tensor, change, workers: int) -> tuple[LoadedSplit, list[str]]:
    """A split with the labels of the regions (A, 4), or of the objects where there are none, and its classes. Raises UserError."""
    file = root / "annotations" / f"instances_{folder}.json"
    names, images = read(file)
    number = {name: k for k, name in enumerate(classes or names)}
    if lost := [name for name in number if name not in names]:
        raise UserError(f"{file} has no category '{lost[0]}'; it has {', '.join(names[:5])}, ...")
    known = [(i, name, [[number[c], *box] for c, *box in objects if c in number]) for i, name, objects in images]
    known = [(i, name, torch.tensor(objects)) for i, name, objects in known if objects]
    if not known:
        raise UserError(f"{file} has no object of the classes asked for")
    there = set(os.listdir(root / folder)) if (root / folder).is_dir() else set()
    if lost := [name for _, name, _ in known if name not in there]:
        raise absent(f"a part of COCO's {folder}, {len(lost)} of {len(known)} images,", [root / folder / lost[0]], HOW)
    objects = torch.full((len(known), max(len(objects) for *_, objects in known), 5), -1.0)
    owner, iou = torch.empty(len(known), len(regions), dtype=torch.long), torch.empty(len(known), len(regions))
    for k, (*_, own) in enumerate(known):
        own[:, 1:] *= size
        objects[k, : len(own)] = own
        owner[k], iou[k] = (v[0] for v in stand_for(own[None], regions))
    y = labels(objects, owner, iou) if len(regions) else each(objects)
    split = LoadedSplit(Photographs([root / folder / name for _, name, _ in known]), y, transform=change, workers=workers)
    split.side = {"objects": objects, "image": torch.tensor([i for i, *_ in known]), **({"owner": owner, "iou": iou} if len(regions) else {})}
    return split, list(number)


def build(root: str, size: int = 224, classes: list[str] | None = None, workers: int = 4, boxes: bool = False):
    """Images are stretched to squares, which no IoU notices. A window's label is as in scenes; so are side["objects"], ["owner"] and ["iou"].

    side["image"] (n,) holds the numbers that the file gives its images, `info.categories` the names of the classes.

    ROOT/annotations/instances_train2017.json and train2017/*.jpg, and the same of val2017, which is the test split; no change of training images.
    848 windows an image: sides of 1/8, 1/4, 1/2 and all of it, half, as and twice as high as wide, half a window apart. An object
    that none of them overlaps by an IoU of 0.5, such as most that are much smaller than the least window, stays in side["objects"] and no window stands for
    it. Crowds and boxes without area count as if they were not there; images without an object of the classes are left out.

    With `boxes` there are no windows: labels (n, objects) are the class + 1 of each row of side["objects"], 0 where there is none.

    Args:
        root: folder of annotations, train2017 and val2017.
        size: >= 8; pixels of a side.
        classes: names of the categories that are objects, in the order of their numbers; all, as the file numbers them, if not given.
        workers: >= 0; processes that read images; 0 reads in the run itself. Does not change the result.
        boxes: label objects, for a detector that finds its own boxes, and no windows.
    """
    if classes and len(set(classes)) < len(classes):
        raise ValueError("classes names one twice")
    change = transforms.Compose([transforms.Resize((size, size)), transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    splits, base, regions = {}, Path(root).expanduser(), torch.empty(0, 4) if boxes else windows(size, SIDES, STEP, RATIOS)
    for split, folder in SPLITS.items():
        splits[split], classes = load(base, folder, classes, size, regions, change, workers)
    task, regions = "boxes" if boxes else "detection", tuple(map(tuple, regions.tolist()))
    return Data(Named(task, (3, size, size), len(classes) + 1, regions=regions, categories=tuple(classes)), **splits)
