from types import SimpleNamespace

import pytest
import torch

from runner.components.eval.accuracy import build


def test_by_hand_over_batches_of_unequal_size():
    z = torch.eye(3)[torch.tensor([0, 1, 2, 2, 1])]
    y = torch.tensor([0, 1, 2, 0, 0])
    batches = [SimpleNamespace(z=z[:4], y=y[:4]), SimpleNamespace(z=z[4:], y=y[4:])]
    state = SimpleNamespace(predictions=lambda split: batches)
    assert build().measure(state, None)["acc"].item() == pytest.approx(60.0)
    assert build(["train"]).splits == ["train"]


def test_sequences_count_every_position():
    z, y = torch.eye(2)[torch.tensor([[0, 1, 1], [0, 0, 1]])], torch.tensor([[0, 1, 0], [1, 0, 1]])
    state = SimpleNamespace(predictions=lambda split: [SimpleNamespace(z=z, y=y)])
    assert build().measure(state, None)["acc"].item() == pytest.approx(100 * 4 / 6)
