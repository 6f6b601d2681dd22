"""How well a method tells the training samples that belong to no class from the others."""

import torch

from runner import card

CARD = card(
    source="area under the ROC curve, as of Hendrycks & Gimpel 2017 (1610.02136), section 3",
    better={"open_set_auroc": "max"},
    tasks=("classification",),
)


class OpenSetDetection:
    splits = ("train",)

    def measure(self, state, split):
        scores, truth = state.per_sample.get("outlier"), split.side.get("open_set")
        if scores is None or truth is None or truth.all() or not truth.any():
            return {}
        outside, inside = scores[truth].double(), scores[~truth].double().sort()[0]
        below, upto = (torch.searchsorted(inside, outside, right=right).double() for right in (False, True))
        return {"open_set_auroc": 100 * ((below + upto) / 2).mean() / len(inside)}


def build():
    """open_set_auroc: percent of pairs of an input of no class (`side["open_set"]`) and another in which the former has the higher score; ties count half.

    Reads what a method wrote to `per_sample["outlier"]`; measures nothing where there is none, or no open set.
    """
    return OpenSetDetection()
