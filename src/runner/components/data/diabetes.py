"""442 patients, ten measurements, progression of the disease after a year; shipped with scikit-learn."""

import torch
from sklearn.datasets import load_diabetes

from runner import card
from runner.components.data._tables import table

CARD = card(source="Efron et al. 2004, Least angle regression", tasks=("regression",))


def build(test: float = 0.2, val: float = 0.0, train_size: int | None = None, split: int = 0):
    """Regression of one value on 10 features, all standardised.

    Args:
        test: in (0, 1); share of the samples in the test split.
        val: in [0, 1); share of the training rows that are split off for validation.
        train_size: >= 1; train on so many of the training rows; all if not given.
        split: >= 0; which random split.
    """

    x, y = load_diabetes(return_X_y=True, scaled=False)
    values = torch.tensor(y, dtype=torch.float32).reshape(len(y), -1)
    return table(torch.tensor(x, dtype=torch.float32), values, test, split, "regression", val=val, train_size=train_size)
