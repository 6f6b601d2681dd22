from types import SimpleNamespace

import torch

from runner.components.eval.regression_error import build
from runner.core.data import Batch


def test_by_hand():
    batches = [Batch(torch.zeros(1, 1), torch.tensor([[1.0]]), torch.tensor([0]), z=torch.tensor([[4.0]]))]
    batches.append(Batch(torch.zeros(2, 1), torch.tensor([[0.0], [2.0]]), torch.tensor([1, 2]), z=torch.tensor([[-4.0], [2.0]])))
    found = build().measure(SimpleNamespace(predictions=lambda split: batches), None)
    assert found["mae"] == 7 / 3
    assert abs(found["rmse"] - (25 / 3) ** 0.5) < 1e-12
