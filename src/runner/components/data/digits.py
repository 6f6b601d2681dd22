"""1,797 handwritten digits of 8x8 pixels, shipped with scikit-learn: real data without a network."""

from runner import card
from runner.components.data._digits import load_digits
from runner.components.data._tables import table

CARD = card(source="UCI optical recognition of handwritten digits, Alpaydin & Kaynak 1998", tasks=("classification",))


def build(test: float = 0.2, split: int = 0, flat: bool = True, val: float = 0.0, train_size: int | None = None):
    """Ten classes of 8x8 grey images in [0, 1].

    Args:
        test: in (0, 1); share of the samples in the test split, the same share of each class.
        split: >= 0; which random split.
        flat: inputs of shape (64,) rather than (1, 8, 8).
        val: in [0, 1); share of the training rows that are split off for validation.
        train_size: >= 1; train on so many of the training rows, as many of each class; all if not given.
    """
    x, y = load_digits()
    return table(x, y, test, split, shape=(64,) if flat else (1, 8, 8), scale=False, val=val, train_size=train_size)
