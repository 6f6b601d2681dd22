"""Which boxes count in the loss of a detector, and what they should be: matching, sampling, and the loss of anchors."""

import torch
from torch import Tensor
from torch.nn import functional as F

from runner.components._boxes import MATCH

ANCHOR, NONE = 0.7, 0.3  # IoU from which an anchor shows an object, and below which it shows none; detectron2, config/defaults.py


def sample(labels: Tensor, count: int, positive: float, generator: torch.Generator) -> Tensor:
    """Places of at most `count` labels (A,), drawn without replacement: at most that share of positive ones, then as many zeros as there is room for."""
    some, none = (places.nonzero()[:, 0] for places in (labels > 0, labels == 0))
    draw = lambda places, most: places[torch.randperm(len(places), generator=generator, device=places.device)[:most]]
    some = draw(some, int(count * positive))
    return torch.cat([some, draw(none, count - len(some))])


def assign(regions: Tensor, boxes: Tensor, later: Tensor) -> Tensor:
    """(A,): the box (m, 4) that each region (A, 4) overlaps most, if by an IoU of 0.5, or -1; those `later` (m,) get only what no other has."""
    from torchvision.ops import box_iou

    if not len(boxes):
        return torch.full((len(regions),), -1, device=regions.device)
    iou = box_iou(regions, boxes)
    best, which = iou.max(1)
    early, first = iou.masked_fill(later, 0).max(1)
    return torch.where(early >= MATCH, first, torch.where(best >= MATCH, which, -1))


def moves_loss(moves: Tensor, regions: Tensor, boxes: Tensor, weights: tuple, beta: float) -> Tensor:
    """(A,): how far predicted moves (A, 4) are from those of the regions to the boxes; absolute differences, squared ones below `beta`."""
    from torchvision.models.detection._utils import BoxCoder

    return F.smooth_l1_loss(moves, BoxCoder(weights).encode_single(boxes, regions), reduction="none", beta=beta).sum(1)


def anchors_loss(objectness: Tensor, shifts: Tensor, anchors: Tensor, boxes: Tensor, count: int, beta: float, generator: torch.Generator) -> Tensor:
    """Of one image: cross entropy of what is an object and the loss of its moves, over `count` anchors, at most half of which are objects.

    Args:
        objectness, shifts: (A,), (A, 4) logits, and moves of the boxes.
        anchors: (A, 4).
        boxes: (m, 4) objects; each has also the anchor that overlaps it most.
    """
    from torchvision.models.detection._utils import Matcher
    from torchvision.ops import box_iou

    labels = which = torch.zeros(len(anchors), dtype=torch.long, device=anchors.device)
    if len(boxes):
        which = Matcher(ANCHOR, NONE, allow_low_quality_matches=True)(box_iou(boxes, anchors))
        labels = torch.where(which >= 0, 1, torch.where(which == Matcher.BELOW_LOW_THRESHOLD, 0, -1))
    places = sample(labels, count, 0.5, generator)
    some = places[labels[places] > 0]
    loss = F.binary_cross_entropy_with_logits(objectness[places], labels[places].float(), reduction="sum")
    return (loss + moves_loss(shifts[some], anchors[some], boxes[which[some]], (1.0, 1.0, 1.0, 1.0), beta).sum()) / len(places)
