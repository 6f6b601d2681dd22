"""Open-vocabulary labels: some classes were never labelled, and a file holds the boxes that a model of images and words gave for them."""

import json
import math
from pathlib import Path

import torch
from torch import Tensor

from runner import UserError, card

CARD = card(
    paper="marvelovd2024",
    arxiv="2407.21465",
    source="authors' code wkfdb/MarvelOVD, tools/gen_PLs_from_CLIP_scores.py, after xiaofeng94/VL-PLM: annotations in COCO's format, those of CLIP with a "
    "`confidence`, the same as their `clip_score`; its --thres is 0.5. "
    "That a window stands for a box from an IoU of 0.5 on is from data=coco; the authors train on the boxes themselves, as with data.boxes=true",
    tasks=("detection", "boxes"),
)
MATCH = 0.5  # IoU from which a region stands for a box


def read(file: Path, number: dict[str, int], least: float) -> dict[int, list]:
    """Of each image, by its number in the file, [class, x0, y0, x1, y1, score] of its boxes of the named classes, in shares of its sides. Raises UserError."""
    if not file.is_file():
        raise UserError(f"the proposals are not on this machine: looked in {file}; set noise.path to a file as tools/gen_PLs_from_CLIP_scores.py writes it")
    boxes: dict[int, list] = {}
    try:
        found = json.loads(file.read_bytes())
        names = {c["id"]: c["name"] for c in found["categories"]}
        sides = {i["id"]: (i["width"], i["height"]) for i in found["images"]}
        for a in found["annotations"]:
            score = a.get("confidence", a.get("score"))  # people's labels have neither
            if score is not None and score >= least and names[a["category_id"]] in number:
                (wide, high), (x, y, w, h) = sides[a["image_id"]], a["bbox"]
                own = [number[names[a["category_id"]]], x / wide, y / high, (x + w) / wide, (y + h) / high, score]
                if not all(map(math.isfinite, own)):
                    raise ValueError(f"box {a['bbox']} of image {a['image_id']}")
                boxes.setdefault(a["image_id"], []).append(own)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise UserError(f"{file} is damaged, or has not the format of COCO's instances ({error!r}); remove it and get it again") from error
    if lost := [name for name in number if name not in names.values()]:
        raise UserError(f"{file} has no category '{lost[0]}', which noise.novel asks for; it has {', '.join(list(names.values())[:5])}, ...")
    return boxes


def place(own: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
    """The class of the box that each region (A, 4) stands for, counted from 1, or 0, and its score, or 0.

    Args:
        own: (m, 6) class, x0, y0, x1, y1, score; each goes to the region that it overlaps most, if by an IoU of 0.5, and the surest one stays.
    """
    from torchvision.ops import box_iou

    proposed, score = torch.zeros(len(regions), dtype=torch.long), torch.zeros(len(regions))
    iou, which = box_iou(own[:, 1:5], regions).max(1)
    for k in own[:, 5].argsort(descending=True, stable=True).tolist():
        if iou[k] >= MATCH and not proposed[which[k]]:
            proposed[which[k]], score[which[k]] = own[k, 0].long() + 1, own[k, 5]
    return proposed, score


def windowed(boxes: dict[int, list], data, y: Tensor) -> dict[str, Tensor]:
    """side["proposed"] and side["score"] (n, regions) of data that classify regions."""
    _, high, wide = data.info.shape
    regions = torch.tensor(data.info.regions) / torch.tensor([wide, high, wide, high])
    proposed, score = torch.zeros(y.shape, dtype=torch.long), torch.zeros(y.shape)
    for k, image in enumerate(data.train.side["image"].tolist()):
        if image in boxes:
            proposed[k], score[k] = place(torch.tensor(boxes[image]), regions)
    return {"proposed": proposed.to(y.device), "score": score.to(y.device)} if proposed.any() else {}


def whole(boxes: dict[int, list], data, y: Tensor) -> dict[str, Tensor]:
    """side["proposals"] (n, p, 6) of data with boxes, in pixels; without those that have no area, as detectron2's filter_empty_instances."""
    _, high, wide = data.info.shape
    own = [[b for b in boxes.get(image, ()) if b[1] < b[3] and b[2] < b[4]] for image in data.train.side["image"].tolist()]
    proposals = torch.full((len(own), max(map(len, own)), 6), -1.0)
    for k, found in enumerate(own):
        proposals[k, : len(found)] = torch.tensor(found).view(-1, 6) * torch.tensor([1, wide, high, wide, high, 1])
    return {"proposals": proposals.to(y.device)} if proposals.numel() else {}


def build(path: str, novel: list[int], least: float = 0.5):
    """As open_vocabulary with proposals of a file: training labels of the novel classes become 0; side["proposed"], side["score"] (n, regions).

    With data.boxes=true the boxes stay as they are: side["proposals"] (n, most of an image, 6), class, x0, y0, x1, y1 in pixels and score; -1 for none.

    The file is JSON with images (id, width, height), categories (id, name) and annotations (image_id, category_id, bbox as x, y, width, height in pixels, and
    confidence, or score); annotations without either, and those of other classes, are passed over. A box becomes a proposal at the region that overlaps it
    most, if with an IoU of 0.5 or more; of several at one region the surest. The data must have side["image"] and `info.categories`, as coco does.

    Args:
        path: the file, such as the authors' train_novel_candidate_0.5.json.
        novel: >= 0; classes without a label, counted from 0.
        least: in [0, 1]; least score of a proposal.
    """

    def corrupt(data, generator):
        del generator
        split, names = data.train, getattr(data.info, "categories", ())
        if "image" not in split.side or not names:
            raise UserError("noise/pseudo_boxes needs side['image'] and the names of the data's classes, which this one has not; data=coco has")
        if wrong := [c for c in novel if not 0 <= c < len(names)]:
            raise UserError(f"noise.novel={wrong[0]} is no class; the data has 0 to {len(names) - 1}")
        file = Path(path).expanduser()
        boxes = read(file, {names[c]: c for c in novel}, least)
        y, regions = split.y, data.info.regions
        if not (found := (windowed if regions else whole)(boxes, data, y)):
            where = f", that a region overlaps by an IoU of {MATCH}" if regions else ""
            what = f"no box of noise.novel with a score of {least} or more, in the data's images{where}"
            raise UserError(f"{file} proposes nothing: {what}")
        split.side |= found
        split.relabel(torch.where(torch.isin(y - 1, torch.tensor(list(novel), device=y.device)), 0, y))

    return corrupt
