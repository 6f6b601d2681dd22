"""Errors of a regression, whatever loss it was trained with."""

from runner import card

CARD = card(better={"mae": "min", "rmse": "min"}, tasks=("regression",))


class RegressionError:
    def __init__(self, splits):
        self.splits = splits

    def measure(self, state, split):
        absolute = square = count = 0
        for batch in state.predictions(split):
            error = batch.z.double() - batch.y
            absolute, square, count = absolute + error.abs().sum(), square + error.square().sum(), count + error.numel()
        return {"mae": absolute / count, "rmse": (square / count).sqrt()}


def build(splits: list[str] = ("test",)):
    """mae: mean absolute error; rmse: root of the mean squared error; over samples and outputs.

    Args:
        splits: where to measure: train, val, test.
    """
    return RegressionError(list(splits))
