from types import SimpleNamespace

import pytest
import torch
from sklearn.metrics import f1_score

from runner.components.eval.tags import build
from runner.core.data import Batch, Split


def test_like_scikit_learns():
    g = torch.Generator().manual_seed(0)
    z, y, rules = torch.randn(50, 4, 5, generator=g), torch.randint(4, (50, 4), generator=g), torch.randint(4, (50, 4), generator=g)
    split = Split(torch.zeros(50, 1), y)
    split.side["rules"] = rules
    batches = [Batch(split.x[k : k + 25], y[k : k + 25], torch.arange(25), z=z[k : k + 25]) for k in (0, 25)]
    found = build().measure(SimpleNamespace(predictions=lambda split: batches), split)
    f1 = lambda guess: 100 * f1_score(y.flatten(), guess.flatten(), labels=[0, 1, 2, 3], average="macro")
    assert found["f1"].item() == pytest.approx(f1(z.argmax(-1)))
    assert found["rules_f1"].item() == pytest.approx(f1(rules))
    assert found["over_rules"].item() == pytest.approx(f1(z.argmax(-1)) - f1(rules), abs=1e-4)
