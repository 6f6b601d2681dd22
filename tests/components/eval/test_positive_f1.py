from types import SimpleNamespace

import pytest
import torch
from sklearn.metrics import f1_score

from runner.components.eval.positive_f1 import build
from runner.core.data import Batch


def test_like_scikit_learns():
    g = torch.Generator().manual_seed(0)
    z, y = torch.randn(200, 4, generator=g), torch.randint(4, (200,), generator=g)
    batches = [Batch(torch.zeros(100, 1), y[k : k + 100], torch.arange(100), z=z[k : k + 100]) for k in (0, 100)]
    found = build().measure(SimpleNamespace(predictions=lambda split: batches, info=SimpleNamespace(outputs=4)), None)
    assert found["f1"].item() == pytest.approx(100 * f1_score(y, z.argmax(1), labels=[0, 1, 2], average="micro"))
