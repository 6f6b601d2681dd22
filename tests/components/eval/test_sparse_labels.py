"""sparse_labels: means by hand, and the area against scikit-learn's."""

from types import SimpleNamespace

import pytest
import torch
from sklearn.metrics import roc_auc_score

from runner.components.eval.sparse_labels import build
from runner.core.data import Split


def measure(weights, y):
    return build().measure(SimpleNamespace(per_sample={} if weights is None else {"selected": weights}), Split(torch.zeros(len(y), 1), y))


def test_weights_by_hand_and_area_of_scikit_learn():
    g = torch.Generator().manual_seed(0)
    y, weights = torch.zeros(30, 4, 4).long(), (10 * torch.rand(30, generator=g)).round() / 10
    dense = torch.rand(30, generator=g) < 0.5
    y[dense, 1, 2] = 2
    found = measure(weights, y)
    assert float(found["weight_dense"]) == pytest.approx(100 * weights[dense].mean().item())
    assert float(found["weight_gap"]) == pytest.approx(100 * (weights[dense].mean() - weights[~dense].mean()).item(), rel=1e-4)
    assert float(found["weight_auc"]) == pytest.approx(100 * roc_auc_score(dense.numpy(), weights.numpy()))


def test_nothing_to_compare():
    y = torch.zeros(3, 2, 2).long()
    assert measure(None, y) == measure(torch.ones(3), y) == measure(torch.ones(3), y + 1) == {}
