import torch

from runner.components.loss.l1 import build


def test_by_hand():
    assert build()(torch.tensor([[1.0, -2.0], [0.0, 0.5]]), torch.tensor([[0.0, 2.0], [0.0, 1.0]])).tolist() == [2.5, 0.25]
