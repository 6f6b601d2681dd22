"""Micro-averaged F1 of all classes but the last, which is the catch-all class."""

from runner import card

CARD = card(source="as TACRED's scorer, Zhang et al. 2017: no_relation counts neither as right nor as found", better={"f1": "max"}, tasks=("classification",))


class PositiveF1:
    def __init__(self, splits):
        self.splits = splits

    def measure(self, state, split):
        right = guessed = there = 0
        negative = state.info.outputs - 1
        for batch in state.predictions(split):
            guess = batch.z.argmax(-1)
            right += ((guess == batch.y) & (batch.y != negative)).sum()
            guessed += (guess != negative).sum()
            there += (batch.y != negative).sum()
        return {"f1": 200 * right / (guessed + there)} if guessed + there else {}


def build(splits: list[str] = ("test",)):
    """f1: 2 right / (guessed + there) in percent, over the positive classes.

    Args:
        splits: where to measure: train, val, test.
    """
    return PositiveF1(list(splits))
