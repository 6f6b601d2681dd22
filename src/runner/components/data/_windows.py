"""Grids of windows over images, and which object each window stands for: what data of the tasks `detection` and `boxes` share."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

MATCH = 0.5  # IoU from which a window stands for an object; Everingham et al. 2010


def windows(size: int, sides: Sequence[float], step: float, ratios: Sequence[float] = (1.0,)) -> Tensor:
    """(A, 4): x0, y0, x1, y1 in pixels of windows over a square image.

    Args:
        sides: roots of the windows' areas, as shares of the image's side.
        step: from a window to the next, as a share of its width or height.
        ratios: heights by widths; what is longer than the image is cut off.
    """
    boxes = []
    for side, ratio in itertools.product((size * s for s in sides), ratios):
        wide, high = min(size, side / ratio**0.5), min(size, side * ratio**0.5)
        x, y = (torch.linspace(0, size - long, round((size - long) / (step * long)) + 1).tolist() for long in (wide, high))
        boxes += [(a, b, a + wide, b + high) for b, a in itertools.product(y, x)]
    return torch.tensor(boxes)


def stand_for(objects: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Which object (n, M, 5) each box (A, 4) overlaps most, and its IoU with it: two of (n, A); of no object, IoU 0."""
    from torchvision.ops import box_iou

    n, most = objects.shape[:2]
    iou = box_iou(boxes, objects[..., 1:].flatten(0, 1)).view(len(boxes), n, most) * (objects[..., 0] >= 0)
    best, which = iou.max(-1)
    return which.T, best.T


def labels(objects: Tensor, owner: Tensor, iou: Tensor) -> Tensor:
    """(n, A): the class of the object that each window stands for, counted from 1; 0 where there is none."""
    return torch.where(iou >= MATCH, objects[..., 0].gather(1, owner).long() + 1, 0)


def each(objects: Tensor) -> Tensor:
    """(n, M): the class of each object (n, M, 5) itself, counted from 1; 0 where there is none."""
    return objects[..., 0].long() + 1
