"""Areas under curves are scikit-learn's, the explained variance too."""

from types import SimpleNamespace

import pytest
import torch
from sklearn.metrics import r2_score, roc_auc_score

from runner.components.eval.bags import auc, build
from runner.core.data import Batch


def measured(z, split, task):
    batches = [Batch(z[rows], z[rows], rows, z=z[rows]) for rows in torch.arange(len(z)).split(7)]
    return build().measure(SimpleNamespace(predictions=lambda s: iter(batches), info=SimpleNamespace(task=task)), split)


def test_area_with_ties():
    g = torch.Generator().manual_seed(0)
    scores, positive = torch.randint(6, (50,), generator=g).float(), torch.rand(50, generator=g) < 0.3
    assert auc(scores, positive).item() == pytest.approx(100 * roc_auc_score(positive, scores))


def test_instances_and_bags():
    g = torch.Generator().manual_seed(1)
    z, bag = torch.randn(40, 2, generator=g), torch.arange(40) // 4
    truth = ((torch.rand(40, generator=g) < 0.5) & (bag < 5)).long()
    found = measured(z, SimpleNamespace(y=truth, clean=None, side={"bag": bag}), "classification")
    score = z[:, 1] - z[:, 0]
    assert found["instance_auc"].item() == pytest.approx(100 * roc_auc_score(truth, score))
    best, positive = ([float(v[bag == b].max()) for b in range(10)] for v in (score, truth))
    assert found["bag_auc"].item() == pytest.approx(100 * roc_auc_score(positive, best))
    assert measured(z, SimpleNamespace(y=truth, clean=None, side={}), "classification") == {}


def test_of_several_classes_all_but_the_first_are_positive():
    g = torch.Generator().manual_seed(4)
    z, bag = torch.randn(40, 3, generator=g), torch.arange(40) // 4
    truth = torch.randint(3, (40,), generator=g) * (bag < 5)
    found = measured(z, SimpleNamespace(y=truth, clean=None, side={"bag": bag}), "classification")
    score = -z.softmax(1)[:, 0]
    assert found["instance_auc"].item() == pytest.approx(100 * roc_auc_score(truth > 0, score))
    best, positive = ([float(v[bag == b].max()) for b in range(10)] for v in (score, truth > 0))
    assert found["bag_auc"].item() == pytest.approx(100 * roc_auc_score(positive, best))


def test_variance_of_the_shares_that_is_explained():
    g = torch.Generator().manual_seed(2)
    z, bag = torch.rand(40, 1, generator=g), torch.arange(40) // 4
    truth = (torch.rand(40, 1, generator=g) < 0.4).float()
    found = measured(z, SimpleNamespace(y=torch.zeros(40, 1), clean=truth, side={"bag": bag}), "regression")
    means, shares = ([float(v[bag == b].mean()) for b in range(10)] for v in (z, truth))
    assert found["bag_r2"].item() == pytest.approx(100 * r2_score(shares, means), rel=1e-5)
    assert "bag_auc" not in found


def test_labels_of_bags_are_none_of_instances():
    g = torch.Generator().manual_seed(3)
    z, bag = torch.rand(40, 1, generator=g), torch.randint(6, (40,), generator=g)
    found = measured(z, SimpleNamespace(y=torch.rand(6, 1, generator=g)[bag], clean=None, side={"bag": bag}), "regression")
    assert set(found) == {"bag_r2"}
    z, y = torch.randn(40, 2, generator=g), torch.tensor([0, 1, 0, 0, 1, 0])[bag]
    assert set(measured(z, SimpleNamespace(y=y, clean=None, side={"bag": bag}), "classification")) == {"bag_auc"}
