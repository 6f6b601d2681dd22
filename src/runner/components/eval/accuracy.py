"""Top-1 accuracy in percent."""

from runner import card

CARD = card(better={"acc": "max"}, tasks=("classification", "language", "segmentation", "detection"))


class Accuracy:
    def __init__(self, splits):
        self.splits = splits

    def measure(self, state, split):
        right = total = 0
        for batch in state.predictions(split):
            right += (batch.z.argmax(-1) == batch.y).sum()
            total += batch.y.numel()
        return {"acc": 100 * right / total}


def build(splits: list[str] = ("test",)):
    """acc: share of right predictions, against the labels of the split (of `train`: the noisy ones).

    Args:
        splits: where to measure: train, val, test.
    """
    return Accuracy(list(splits))
