"""Relations and none: some classes stay, the others become one catch-all class, in which positive samples are lost; the others are clean."""

from dataclasses import replace

import torch

from runner import UserError, card

CARD = card(
    paper="tacrednoise2023",
    arxiv="2311.12298",
    source="Parekh et al. 2023, Noise in Relation Classification Dataset TACRED: most of its noise is in the class no_relation",
    tasks=("classification",),
)


def build(positive: int = 5, rate: float = 0.2):
    """The first classes stay; all others, in every split, become the last class; then a share of the positive training samples is labelled so too.

    Args:
        positive: >= 1; classes that stay.
        rate: in [0, 1]; share of the positive training samples that are labelled as the catch-all class.
    """

    def corrupt(data, generator):
        if positive >= data.info.outputs:
            raise UserError(f"noise=catch_all: positive={positive} leaves nothing of the {data.info.outputs} classes for the catch-all class")
        if any(len(v.shape) > 1 and v.shape[1] == data.info.outputs for v in data.train.side.values()):
            raise UserError("noise=catch_all: what is known of each class stands beside the labels already; let it come first: noise=[catch_all,...]")
        for split in data.splits().values():
            split.y = split.y.clamp_max(positive)
            split.clean = None if split.clean is None else split.clean.clamp_max(positive)
        data.info = replace(data.info, outputs=positive + 1)
        split = data.train
        lost = (split.y < positive) & (torch.rand(len(split), generator=generator) < rate).to(split.y.device)
        split.relabel(torch.where(lost, positive, split.y))

    return corrupt
