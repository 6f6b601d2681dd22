"""What became of the samples whose candidate labels lack the true class, and of the others."""

from runner import card

CARD = card(
    paper="alim2023", arxiv="2301.12077", source="Xu et al. 2023, section 4: noisy and clean samples apart",
    better={"recovered": "max", "resolved": "max"}, tasks=("classification",),
)  # fmt: skip


class PartialLabels:
    splits = ("train",)

    def measure(self, state, split):
        if "candidates" not in split.side or split.clean is None:
            return {}
        right = {True: 0, False: 0}
        total = {True: 0, False: 0}
        for batch in state.predictions(split):
            clean = split.clean[batch.i]
            known = split.side["candidates"][batch.i].gather(1, clean.unsqueeze(1)).squeeze(1)
            for key, rows in ((True, known), (False, ~known)):
                right[key] += ((batch.z.argmax(-1) == clean) & rows).sum()
                total[key] += rows.sum()
        return {name: 100 * right[key] / total[key] for name, key in (("resolved", True), ("recovered", False)) if total[key]}


def build():
    """resolved: percent of the samples with the true class among their candidates for which it is predicted; recovered: of those without it."""
    return PartialLabels()
