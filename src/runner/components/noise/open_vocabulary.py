"""Open-vocabulary labels: some classes were never labelled; a classifier of crops, blind to what is around them, proposes where they are, mostly wrongly."""

import torch

from runner import UserError, card

CARD = card(
    paper="marvelovd2024",
    arxiv="2407.21465",
    source="Wang et al. 2024, as the summary at en.papernotes.org reports it: of CLIP's labels 76.6 % show no object, 3.3 % one of another class; simulated, "
    "with scores that say nothing of either",
    off={"novel": []},
    tasks=("detection",),
)
PART = 0.1  # IoU with an object from which a wrong proposal shows a part of it, or much beside it


def draw(allowed, count: int, generator):
    """(rows, columns) of `count` places of a table (n, A), each as likely, of those allowed; all of those if they are fewer."""
    places = allowed.nonzero()
    return tuple(places[torch.randperm(len(places), generator=generator)[:count].to(places.device)].T)


def build(novel: list[int] = (0, 3), empty: float = 0.766, mistaken: float = 0.033, found: float = 0.8, least: float = 0.8):
    """Training labels of the novel classes become 0, nothing there; side["proposed"] (n, regions) holds a novel class, as labels do, or 0.

    Right proposals are the regions that overlap their object most. Wrong ones overlap some object by an IoU of 0.1 to 0.5 (empty), or stand for one of
    another class (mistaken). side["score"] (n, regions): of a proposal uniform in [least, 1], whatever it is; 0 elsewhere. Labels of validation and test
    stay. The data must have side["owner"] and side["iou"], as scenes do.

    Args:
        novel: >= 0; classes without a label, counted from 0.
        empty: in [0, 1]; share of the proposals that stand for no object.
        mistaken: in [0, 1]; share of the proposals that stand for an object of another class; together with `empty` below 1.
        found: in (0, 1]; share of the objects of novel classes that are proposed rightly.
        least: in [0, 1]; least score of a proposal.
    """
    if empty + mistaken >= 1:
        raise ValueError(f"empty={empty} and mistaken={mistaken} leave no proposal that is right")

    def corrupt(data, generator):
        split, classes = data.train, data.info.outputs - 1
        if "iou" not in split.side:
            raise UserError("noise.open_vocabulary needs side['owner'] and side['iou'] of the data, which this one has not; data=scenes has")
        if wrong := [c for c in novel if not 0 <= c < classes]:
            raise UserError(f"noise.open_vocabulary.novel={wrong[0]} is no class; the data has 0 to {classes - 1}")
        y, iou, owner = split.y, split.side["iou"], split.side["owner"]
        hidden = torch.isin(y - 1, torch.tensor(list(novel), device=y.device))
        best = torch.zeros(len(y), split.side["objects"].shape[1], device=y.device).scatter_reduce_(1, owner, iou, "amax").gather(1, owner)
        whole = (iou == best) & (y > 0)  # the region that shows an object best
        kept = whole & hidden & (torch.rand(y.shape, generator=generator).to(y.device) < found)
        proposed, count = torch.where(kept, y, 0), int(kept.sum()) / (1 - empty - mistaken)
        names = torch.tensor(list(novel) or [0], device=y.device) + 1
        for allowed, share in (((iou >= PART) & (y == 0), empty), (whole & ~hidden, mistaken)):
            places = draw(allowed, round(share * count), generator)
            proposed[places] = names[torch.randint(len(names), (len(places[0]),), generator=generator).to(y.device)]
        score = least + (1 - least) * torch.rand(y.shape, generator=generator).to(y.device)
        split.side["proposed"], split.side["score"] = proposed, torch.where(proposed > 0, score, 0)
        split.relabel(torch.where(hidden, 0, y))

    return corrupt
