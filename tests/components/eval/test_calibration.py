"""Calibration error by hand, Brier score and likelihood against scikit-learn."""

from types import SimpleNamespace

import pytest
import torch
from sklearn.metrics import brier_score_loss, log_loss

from runner.components.eval import calibration
from runner.core.data import Batch


def measured(logits, y, bins=15, size=7):
    batches = [Batch(x, t, torch.arange(len(t)), z=x) for x, t in zip(logits.split(size), y.split(size), strict=True)]
    state = SimpleNamespace(device=torch.device("cpu"), predictions=lambda split: iter(batches))
    return {k: float(v) for k, v in calibration.build(bins).measure(state, None).items()}


def binary(confidences):
    p = torch.tensor(confidences, dtype=torch.double)
    return torch.stack([p, 1 - p], -1).log()


def test_ece_by_hand():
    """Ten predictions at 85 %, six right; ten at 62 %, seven right: (10 * 0.25 + 10 * 0.08) / 20."""
    y = torch.tensor([0] * 6 + [1] * 4 + [0] * 7 + [1] * 3)
    assert measured(binary([0.85] * 10 + [0.62] * 10), y)["ece"] == pytest.approx(16.5)


def test_errors_of_a_bin_cancel_and_those_of_two_bins_do_not():
    """0.55 (right) and 0.59 (wrong) lie in (8/15, 9/15] together, but not in bins of width 1/50."""
    z, y = binary([0.55, 0.59]), torch.tensor([0, 1])
    assert measured(z, y, 15)["ece"] == pytest.approx(100 * abs(1 - 0.55 - 0.59) / 2)
    assert measured(z, y, 50)["ece"] == pytest.approx(100 * (0.45 + 0.59) / 2)


def test_certain_predictions():
    sure = torch.tensor([[50.0, -50.0]] * 4, dtype=torch.double)
    assert measured(sure, torch.zeros(4, dtype=torch.long)) == pytest.approx({"ece": 0, "brier": 0, "nll": 0}, abs=1e-9)
    assert measured(sure, torch.ones(4, dtype=torch.long)) == pytest.approx({"ece": 100, "brier": 2, "nll": 100})


def test_brier_and_likelihood_of_scikit_learn():
    g = torch.Generator().manual_seed(0)
    z, y = 2 * torch.randn(100, 5, generator=g), torch.randint(5, (100,), generator=g)
    p, found = z.double().softmax(-1), measured(z, y)
    assert found["nll"] == pytest.approx(log_loss(y, p, labels=range(5)))
    assert found["brier"] == pytest.approx(sum(brier_score_loss(y == c, p[:, c]) for c in range(5)))


def test_sequences_are_so_many_predictions():
    g = torch.Generator().manual_seed(0)
    z, y = torch.randn(6, 4, 5, generator=g), torch.randint(5, (6, 4), generator=g)
    assert measured(z, y) == pytest.approx(measured(z.flatten(0, 1), y.flatten()))


def test_bins_are_closed_above():
    """One half belongs to (0, 1/2]: with a right prediction at 0.5 and a wrong one at 0.6, two bins have errors of 0.5 and 0.6."""
    z = torch.tensor([[0.0, 0.0], [0.6, 0.4]], dtype=torch.double)
    z[1] = z[1].log()
    assert measured(z, torch.tensor([0, 1]), bins=2)["ece"] == pytest.approx(55)
