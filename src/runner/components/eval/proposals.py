"""How good the proposals are that a detector takes for objects nobody labelled."""

import torch

from runner import card

CARD = card(
    arxiv="2407.21465",
    source="the share of right pseudo-labels of Wang et al. 2024; a right one overlaps an object of its class by an IoU of 0.5",
    better={"pseudo_precision": "max", "pseudo_recall": "max"},
    tasks=("detection", "boxes"),
)


class Proposals:
    splits = ("train",)

    def measure(self, state, split):
        mined = state.per_sample.get("mined")
        if mined is None or split.clean is None:
            return {}
        objects, used = split.side["objects"][..., 0].long() + 1, mined > 0
        right = used & (mined == split.clean)
        hidden = (objects > 0) & torch.isin(objects, split.clean[split.y != split.clean])  # of classes without a label
        reached = torch.zeros_like(objects).scatter_add_(1, split.side["owner"], right.long()) > 0
        found = {"pseudo_precision": 100 * right.sum() / used.sum()} if used.any() else {}
        return found | {"pseudo_used": used.sum() / len(used)} | ({"pseudo_recall": 100 * (reached & hidden).sum() / hidden.sum()} if hidden.any() else {})


def build():
    """pseudo_precision: percent of the proposals in use that stand for an object of their class; pseudo_used: their number, the mean over images.

    pseudo_recall: percent of the objects of unlabelled classes that a right proposal in use stands for.

    Reads what a method wrote to `per_sample["mined"]` (n, regions), a class or 0; measures nothing where there is none.
    """
    return Proposals()
