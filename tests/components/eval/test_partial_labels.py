from types import SimpleNamespace

import torch

from runner.components.eval.partial_labels import build
from runner.core.data import Batch, Split


def test_by_hand():
    z = torch.eye(3)[[0, 1, 2, 0]]
    split = Split(torch.zeros(4, 1), torch.tensor([0, 0, 1, 1]))
    split.clean = torch.tensor([0, 1, 0, 0])
    split.side["candidates"] = torch.tensor([[1, 0, 0], [1, 1, 0], [1, 1, 0], [0, 1, 1]]).bool()
    state = SimpleNamespace(predictions=lambda s: [Batch(s.x, s.y, torch.arange(4), z=z)])
    found = build().measure(state, split)
    assert {k: round(float(v), 3) for k, v in found.items()} == {"resolved": 66.667, "recovered": 100.0}
    split.side.clear()
    assert build().measure(state, split) == {}
