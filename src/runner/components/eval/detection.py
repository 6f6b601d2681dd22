"""Average precision of boxes at an IoU of 0.5, as COCO measures it."""

import torch
from torch import Tensor

from runner import UserError, card

CARD = card(
    source="AP50 of cocodataset/cocoapi, PythonAPI/pycocotools/cocoeval.py: precision, made monotone, at 101 levels of recall; of a class at most "
    "100 detections in an image; NMS of Girshick et al. 2014",
    better={"ap50": "max", "ap50_novel": "max", "ap50_base": "max"},
    tasks=("detection", "boxes"),
)
MATCH, NMS, MOST = 0.5, 0.5, 100  # IoU, IoU, detections of a class in an image that count


def average_precision(score: Tensor, hit: Tensor, positives: int) -> float:
    """Mean over the recalls 0, 0.01, ..., 1 of the best precision at that recall or a higher one, in percent.

    Args:
        score, hit: (d,) confidence of detections and whether each is the first one of an object.
        positives: >= 1; objects.
    """
    hit = hit[score.argsort(descending=True, stable=True)].double()
    found = hit.cumsum(0)
    precision = (found / torch.arange(1, len(hit) + 1, device=hit.device)).flip(0).cummax(0)[0].flip(0) if len(hit) else hit
    levels = torch.arange(101, device=hit.device).double() * 0.01  # as NumPy rounds them: precision jumps at some
    at = torch.searchsorted(found / positives, levels)
    return float(100 * torch.cat([precision, precision.new_zeros(1)])[at].mean())


def match(boxes: Tensor, truth: Tensor) -> Tensor:
    """(d,) whether each box (d, 4), the likeliest first, is the first to overlap an object (m, 4) by an IoU of 0.5; it takes the free one it overlaps most."""
    from torchvision.ops import box_iou

    iou, hit = box_iou(boxes, truth), torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    for k in (iou >= MATCH).any(1).nonzero()[:, 0].tolist():
        best, which = iou[k].max(0)
        if best >= MATCH:
            hit[k], iou[:, which] = True, 0
    return hit


class Detection:
    def __init__(self, splits, novel, least):
        self.splits, self.novel, self.least = splits, novel, least

    def detections(self, z: Tensor, regions: Tensor, classes: range):
        """Of each class the boxes (d, 4) and probabilities (d,) in an image, the likeliest first: `z` holds them (D, 6), or logits of the regions (A, 4)."""
        from torchvision.ops import nms

        p = z.float().softmax(-1) if len(regions) else z
        for c in classes:
            if not len(regions):
                own = p[(p[:, 5] == c) & (p[:, 4] > 0) & (p[:, 4] >= self.least)]
                own = own[own[:, 4].argsort(descending=True, stable=True)[:MOST]]
                yield c, own[:, :4], own[:, 4]
                continue
            likely = (p[:, c + 1] >= self.least).nonzero()[:, 0]
            kept = likely[nms(regions[likely], p[likely, c + 1], NMS)[:MOST]]
            yield c, regions[kept], p[kept, c + 1]

    def measure(self, state, split):
        if "objects" not in split.side:
            raise UserError("eval/detection needs side['objects'] of the data, which this one has not; data=scenes and data=coco have")
        regions, objects, classes = torch.tensor(state.info.regions, device=state.device), split.side["objects"], range(state.info.outputs - 1)
        found = {c: [(regions.new_zeros(0), regions.new_zeros(0, dtype=torch.bool))] for c in classes}
        for batch in state.predictions(split):
            for z, truth in zip(batch.z, objects[batch.i], strict=True):
                for c, boxes, score in self.detections(z, regions, classes):
                    found[c].append((score, match(boxes, truth[truth[:, 0] == c, 1:])))
        positives = {c: int((objects[..., 0] == c).sum()) for c in classes}
        ap = {c: average_precision(*map(torch.cat, zip(*found[c], strict=True)), positives[c]) for c in classes if positives[c]}
        novel = [c for c in classes if c in self.novel]
        groups = {"ap50": classes, **({"ap50_novel": novel, "ap50_base": [c for c in classes if c not in novel]} if novel else {})}
        return {name: sum(ap[c] for c in there) / len(there) for name, chosen in groups.items() if (there := [c for c in chosen if c in ap])}


def build(splits: list[str] = ("test",), novel: list[int] = (), least: float = 0.05):
    """ap50: mean over the classes that occur of the average precision at an IoU of 0.5, in percent; of the true objects, whatever the labels are.

    ap50_novel, ap50_base: the mean over the classes of `novel`, and over the others, where some are named. The data must have side["objects"]. Where it
    names no regions, the model's outputs are the detections (n, D, 6): box, probability and class.

    Args:
        splits: where to measure: train, val, test.
        novel: >= 0; classes that were not labelled, counted from 0.
        least: in [0, 1]; probability from which a region, or a box that the model gives, is a detection.
    """
    return Detection(list(splits), list(novel), least)
