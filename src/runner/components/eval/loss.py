"""The run's own loss on a split."""

from runner import card

CARD = card(better={"loss": "min"}, tasks=("classification", "regression", "language", "segmentation", "detection"))


class Loss:
    def __init__(self, splits):
        self.splits = splits

    def measure(self, state, split):
        total = count = 0
        for batch in state.predictions(split):
            losses = state.loss(batch.z, batch.y)
            total += losses.double().sum()
            count += losses.numel()
        return {"loss": total / count}


def build(splits: list[str] = ("test",)):
    """loss: mean over the samples.

    Args:
        splits: where to measure: train, val, test.
    """
    return Loss(list(splits))
