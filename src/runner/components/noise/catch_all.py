"""Relations and none: some classes stay, the others become one catch-all class, in which positive samples are lost; the others are clean."""

from dataclasses import replace

import torch

from runner import card

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
            raise ValueError(f"positive={positive} leaves nothing of the {data.info.outputs} classes for the catch-all class")
        for split in data.splits().values():
            split.y = split.y.clamp_max(positive)
        data.info = replace(data.info, outputs=positive + 1)
        split = data.train
        lost = (split.y < positive) & (torch.rand(len(split), generator=generator) < rate).to(split.y.device)
        split.relabel(torch.where(lost, positive, split.y))

    return corrupt
