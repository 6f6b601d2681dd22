"""150 iris flowers, four lengths, three species; shipped with scikit-learn."""

import torch
from sklearn.datasets import load_iris

from runner import card
from runner.components.data._tables import table

CARD = card(source="Fisher 1936, UCI", tasks=("classification",))


def build(test: float = 0.2, val: float = 0.0, train_size: int | None = None, split: int = 0):
    """Three classes of 4 standardised features.

    Args:
        test: in (0, 1); share of the samples in the test split, the same share of each class.
        val: in [0, 1); share of the training rows that are split off for validation.
        train_size: >= 1; train on so many of the training rows, as many of each class; all if not given.
        split: >= 0; which random split.
    """

    x, y = load_iris(return_X_y=True)
    return table(torch.tensor(x, dtype=torch.float32), torch.tensor(y), test, split, val=val, train_size=train_size)
