from types import SimpleNamespace

import pytest
import torch

from runner.components.eval.loss import build


def test_mean_over_samples_not_over_batches():
    z, y = torch.tensor([1.0, 2.0, 3.0, 10.0, -10.0]), torch.zeros(5)
    batches = [SimpleNamespace(z=z[:4], y=y[:4]), SimpleNamespace(z=z[4:], y=y[4:])]
    state = SimpleNamespace(predictions=lambda split: batches, loss=lambda a, b: (a - b).abs())
    assert build().measure(state, None)["loss"].item() == pytest.approx(26 / 5)
