"""How well a method tells right labels from wrong ones in rare classes and in frequent ones."""

import torch

from runner import card

CARD = card(
    paper="tabasco2023", arxiv="2208.09833", source="Lu et al. 2023, section 4: precision and recall of the selection in tail classes; here their F1",
    better={"selection_f1_rare": "max", "selection_f1_frequent": "max"}, tasks=("classification",),
)  # fmt: skip


class SelectionByClass:
    splits = ("train",)

    def __init__(self, rare):
        self.rare = rare

    def measure(self, state, split):
        weights = state.per_sample.get("selected")
        if weights is None or split.clean is None:
            return {}
        weights, classes, f1 = weights.double(), state.info.outputs, []
        for c in range(classes):
            labelled = (split.y == c).double()
            right = labelled * (split.clean == c)
            f1.append(2 * (weights * right).sum() / ((weights * labelled).sum() + right.sum()).clamp_min(1))
        order = split.clean.bincount(minlength=classes).argsort(stable=True)
        f1 = 100 * torch.stack(f1)[order]
        groups = {"rare": f1[: self.rare], "frequent": f1[self.rare :]}
        return {f"selection_f1_{name}": group.mean() for name, group in groups.items() if len(group)}


def build(rare: int = 3):
    """F1 in percent of selecting the right labels among the samples labelled with a class: mean over the rarest true classes and over the others, if any.

    Reads what a method wrote to `per_sample["selected"]`; measures nothing where there is none.

    Args:
        rare: >= 1; how many classes are called rare.
    """
    return SelectionByClass(rare)
