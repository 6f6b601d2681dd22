"""How well a method tells clean samples from wrong ones."""

from runner import card

CARD = card(
    arxiv="1804.06872",
    source="label precision of Han et al. 2018, section 4",
    better={"selection_precision": "max", "selection_recall": "max"},
    tasks=("classification",),
)


class Selection:
    splits = ("train",)

    def measure(self, state, split):
        weights = state.per_sample.get("selected")
        if weights is None or split.clean is None:
            return {}
        weights, clean = weights.double(), (split.clean == split.y).double()
        shares = {"selection_precision": weights.sum(), "selection_recall": clean.sum()}
        return {name: 100 * (weights * clean).sum() / total for name, total in shares.items() if total > 0}


def build():
    """selection_precision: percent of the selected training samples whose label is right; selection_recall: percent of the right ones selected.

    Reads what a method wrote to `per_sample["selected"]` (0, 1 or weights between); measures nothing where there is none.
    """
    return Selection()
