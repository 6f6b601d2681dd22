from types import SimpleNamespace

import pytest
import torch

from runner.components.eval.selection import build


def measured(selected, y, clean):
    state = SimpleNamespace(per_sample={} if selected is None else {"selected": torch.tensor(selected)})
    split = SimpleNamespace(y=torch.tensor(y), clean=None if clean is None else torch.tensor(clean))
    return {k: float(v) for k, v in build().measure(state, split).items()}


def test_precision_and_recall_by_counting():
    found = measured([1.0, 1.0, 1.0, 0.0, 0.0], y=[0, 1, 2, 0, 1], clean=[0, 1, 0, 0, 2])  # right: the 1st, 2nd and 4th
    assert found == pytest.approx({"selection_precision": 100 * 2 / 3, "selection_recall": 100 * 2 / 3})


def test_weights_between():
    found = measured([0.5, 0.25, 0.25], y=[0, 0, 0], clean=[0, 1, 0])
    assert found == pytest.approx({"selection_precision": 75.0, "selection_recall": 37.5})


def test_nothing_to_measure():
    assert measured(None, [0], [0]) == {}
    assert measured([1.0], [0], None) == {}
    assert measured([0.0, 0.0], [0, 1], [0, 1]) == {"selection_recall": 0.0}
