"""How good the proposals are that a detector takes for objects nobody labelled."""

import torch
from torch import Tensor

from runner import card
from runner.components._boxes import MATCH

CARD = card(
    arxiv="2407.21465",
    source="the share of right pseudo-labels of Wang et al. 2024; a right one overlaps an object of its class by an IoU of 0.5",
    better={"pseudo_precision": "max", "pseudo_recall": "max"},
    tasks=("detection", "boxes"),
)


def boxes_right(mined: Tensor, split) -> tuple[Tensor, Tensor]:
    """Of boxes, not windows: (n, p) which proposals in use overlap an object of their class, and (n, m) which objects one of them overlaps."""
    from torchvision.ops import box_iou

    proposals, objects = split.side["proposals"], split.side["objects"]
    right, reached = torch.zeros_like(mined, dtype=torch.bool), torch.zeros_like(objects[..., 0], dtype=torch.bool)
    for k in (mined > 0).any(1).nonzero()[:, 0].tolist():
        hit = (box_iou(proposals[k, :, 1:5], objects[k, :, 1:]) >= MATCH) & (mined[k, :, None] == objects[k, :, 0] + 1) & (mined[k, :, None] > 0)
        right[k], reached[k] = hit.any(1), hit.any(0)
    return right, reached


class Proposals:
    splits = ("train",)

    def measure(self, state, split):
        mined = state.per_sample.get("mined")
        if mined is None or split.clean is None:
            return {}
        objects, used = split.side["objects"][..., 0].long() + 1, mined > 0
        hidden = (objects > 0) & torch.isin(objects, split.clean[split.y != split.clean])  # of classes without a label
        if "proposals" in split.side:
            right, reached = boxes_right(mined, split)
        else:
            right = used & (mined == split.clean)
            reached = torch.zeros_like(objects).scatter_add_(1, split.side["owner"], right.long()) > 0
        found = {"pseudo_precision": 100 * right.sum() / used.sum()} if used.any() else {}
        return found | {"pseudo_used": used.sum() / len(used)} | ({"pseudo_recall": 100 * (reached & hidden).sum() / hidden.sum()} if hidden.any() else {})


def build():
    """pseudo_precision: percent of the proposals in use that stand for an object of their class; pseudo_used: their number, the mean over images.

    pseudo_recall: percent of the objects of unlabelled classes that a right proposal in use stands for.

    Reads what a method wrote to `per_sample["mined"]` (n, regions), a class or 0; measures nothing where there is none. Of data that name no regions it is
    (n, p), of the boxes in side["proposals"]; a right one overlaps an object of its class by an IoU of 0.5.
    """
    return Proposals()
