"""What became of the wrong labels: fitted (memorised), seen through (corrected), or neither."""

from runner import card

CARD = card(arxiv="2007.00151", source="Liu et al. 2020, figure 1", better={"memorised": "min", "corrected": "max"}, tasks=("classification",))


class Memorisation:
    splits = ("train",)

    def measure(self, state, split):
        if split.clean is None:
            return {}
        fitted = corrected = wrong = 0
        for batch in state.predictions(split):
            clean, guess = split.clean[batch.i], batch.z.argmax(-1)
            bad = batch.y != clean
            wrong += bad.sum()
            fitted += (bad & (guess == batch.y)).sum()
            corrected += (bad & (guess == clean)).sum()
        return {"memorised": 100 * fitted / wrong, "corrected": 100 * corrected / wrong} if wrong else {}


def build():
    """memorised: percent of the wrong labels that the model predicts; corrected: percent where it predicts the true class."""
    return Memorisation()
