from types import SimpleNamespace

import torch

from runner.components.eval.crowd import build
from runner.core.data import Split


def test_by_hand():
    split = Split(torch.zeros(2, 1), torch.tensor([0, 1]))
    split.relabel(torch.tensor([0, 0]))
    split.side = {"confusing": torch.tensor([2, 0]), "clarity": torch.tensor([0.7, 0.8], dtype=torch.float64)}
    state = SimpleNamespace(per_sample={"crowd_labels": torch.tensor([[0.6, 0.0, 0.4], [0.5, 0.3, 0.2]])})
    found = {k: round(float(v), 4) for k, v in build().measure(state, split).items()}
    assert found == {"first": 50.0, "second": 50.0, "clarity_error": round((0.1 + 0.175) / 2, 4)}
    assert build().measure(SimpleNamespace(per_sample={}), split) == {}
