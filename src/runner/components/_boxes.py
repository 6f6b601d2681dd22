"""What models, learners and hooks agree on about boxes (x0, y0, x1, y1) in pixels."""

import torch
from torch import Tensor

MATCH = 0.5  # IoU from which a box stands for another; Everingham et al. 2010
MOVES = (10.0, 10.0, 5.0, 5.0)  # by what a region's moves, in x, y, log width, log height, are multiplied; Girshick's code, and detectron2's


def mirror(boxes: Tensor, turned: Tensor, wide: int) -> Tensor:
    """Boxes (B, m, 4) of images `wide` pixels wide, those of the images that are `turned` (B,) as in a mirror."""
    x0, y0, x1, y1 = boxes.unbind(-1)
    return torch.where(turned.view(-1, 1, 1), torch.stack([wide - x1, y0, wide - x0, y1], -1), boxes)
