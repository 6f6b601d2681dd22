"""A long tail: the classes of the training split become exponentially rarer. Label noise on top of it is chosen beside it."""

from typing import Literal

import torch

from runner import card

CARD = card(
    paper="ldam2019",
    arxiv="1906.07413",
    source="Cao et al. 2019, section 4 and authors' code kaidic/LDAM-DRW, imbalance_cifar.py",
    off={"factor": 1.0},
    tasks=("classification",),
)


def shares(classes: int, factor: float, kind: str) -> list[float]:
    """The share of each class that is kept."""
    if kind == "step":
        return [1.0 if c < classes // 2 else 1 / factor for c in range(classes)]
    return [factor ** (-c / max(1, classes - 1)) for c in range(classes)]


def build(factor: float = 10.0, kind: Literal["exp", "step"] = "exp"):
    """Of class c a share factor^(-c / (C - 1)) of the samples is kept, at least one. The other splits stay balanced.

    noise=[long_tail,symmetric] first makes the tail and then flips labels: the observed sizes of the classes are then not the true ones.

    Args:
        factor: >= 1; how many times the first class is as large as the last.
        kind: exp, or step: the second half of the classes is `factor` times smaller.
    """

    def corrupt(data, generator):
        split = data.train
        truth = (split.y if split.clean is None else split.clean).cpu()
        order, kept = torch.randperm(len(truth), generator=generator), []
        for c, share in enumerate(shares(data.info.outputs, factor, kind)):
            rows = order[truth[order] == c]
            kept.append(rows[: max(1, int(share * len(rows) + 1e-9))])
        split.resample(torch.cat(kept).sort()[0])

    return corrupt
