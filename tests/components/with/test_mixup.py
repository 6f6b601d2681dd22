from types import SimpleNamespace

import pytest
import torch
from scipy import stats

from runner.config import registry
from runner.core.data import Batch, Info
from runner.core.rng import Streams

mixup = registry.load("with", "mixup")


def state(seed=0, outputs=3):
    return SimpleNamespace(rng=Streams(seed), info=Info("classification", (6,), outputs))


def mixed(s, t, alpha=1.0):
    """A batch whose inputs are unit vectors, so that the mixed inputs show who was mixed with whom and how much."""
    n = len(t)
    batch = Batch(torch.eye(n, dtype=torch.double), t, torch.arange(n))
    mixup.build(alpha).batch(s, batch)
    return batch


def test_inputs_and_targets_are_mixed_alike():
    y = torch.tensor([0, 1, 2, 0, 1, 2])
    batch = mixed(state(), y)
    assert torch.equal(batch.y, y)
    lams = set()
    for k, row in enumerate(batch.x):
        partner = next((j for j in range(6) if j != k and row[j] > 0), k)
        expected = torch.zeros(3, dtype=torch.double)
        expected[y[k]] += row[k]
        if partner != k:
            expected[y[partner]] += row[partner]
            lams.add(round(row[k].item(), 9))
        assert torch.allclose(batch.t[k].double(), expected, atol=1e-6)
    assert len(lams) == 1


def test_a_permutation_pairs_the_batch():
    batch = mixed(state(1), torch.zeros(8, dtype=torch.long))
    assert torch.allclose(batch.x.sum(0), torch.ones(8, dtype=torch.double))


@pytest.mark.parametrize("alpha", [0.2, 1.0, 8.0])
def test_lam_follows_the_beta_distribution(alpha):
    s, lams = state(), []
    for _ in range(600):
        row = mixed(s, torch.zeros(50, dtype=torch.long), alpha).x[0]
        lams += [row[0].item()] if row[0] < 1 else []  # 1: paired with itself
    assert stats.kstest(lams, stats.beta(alpha, alpha).cdf).pvalue > 0.01


def test_soft_targets_and_regression():
    t = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    batch = mixed(state(2), t)
    assert torch.allclose(batch.t.double(), batch.x @ t.double(), atol=1e-6)
    values = torch.tensor([[1.0], [3.0]])
    batch = mixed(state(3, outputs=1), values)
    assert torch.allclose(batch.t.double(), batch.x @ values.double(), atol=1e-6)
