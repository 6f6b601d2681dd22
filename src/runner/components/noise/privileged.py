"""Privileged information: features that only the training samples have, as whether an annotator erred. Beside label noise, after it."""

import torch
from torch.nn import functional as F

from runner import card

CARD = card(
    paper="pi2023",
    arxiv="2303.01806",
    source="Ortiz-Jimenez et al. 2023, section 3: the indicator of wrong labels, and the label itself as what is too predictive",
    tasks=("classification",),
)


def build(indicator: bool = True, label: bool = False, certainty: float = 1.0):
    """`side["privileged"]` (n, k) holds them, one column or one for each class more.

    noise=[symmetric,privileged] makes the labels wrong first.

    Args:
        indicator: one column that is 1 where the label is wrong.
        label: the label itself, one column a class.
        certainty: in [0, 1]; share of the samples whose features are told; the others' are zero.
    """

    if not (indicator or label):
        raise ValueError("indicator=false and label=false leave no privileged information")

    def corrupt(data, generator):
        split = data.train
        wrong = torch.zeros(len(split)) if split.clean is None else (split.y != split.clean).float().cpu()
        columns = [wrong.unsqueeze(1)] if indicator else []
        if label:
            columns.append(F.one_hot(split.y.cpu(), data.info.outputs).float())
        told = torch.rand(len(split), 1, generator=generator) < certainty
        split.side["privileged"] = torch.cat(columns, 1) * told

    return corrupt
