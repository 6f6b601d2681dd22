import importlib
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from runner.core.data import Batch

backward = importlib.import_module("runner.components.with.backward_correction")
G = torch.Generator().manual_seed(0)
T = torch.tensor([[0.7, 0.2, 0.1], [0.05, 0.9, 0.05], [0.3, 0.1, 0.6]])
Z = torch.randn(8, 3, generator=G)


def ce(z, t):
    return -z.log_softmax(-1).gather(-1, t.unsqueeze(-1)).squeeze(-1) if not t.is_floating_point() else -(t * z.log_softmax(-1)).sum(-1)


def squared(z, t):  # another loss, that is not linear in the target
    return (F.one_hot(t, 3) - z.softmax(-1)).square().sum(-1)


def corrected(z, target, loss=ce, matrix=T, phase=1, extra=0.0, **options):
    thing = backward.build(**options)
    thing.matrix = matrix
    batch = Batch(z, target, torch.arange(len(z)), z=z)
    state = SimpleNamespace(phase=phase, loss=loss, info=SimpleNamespace(outputs=3))
    return thing.losses(state, loss(z, target) + extra, batch)


@pytest.mark.parametrize("loss", [ce, squared])
def test_theorem_1_unbiased_under_the_noise(loss):
    """E over labels drawn by T of the corrected loss is the loss of the true label."""
    for c in range(3):
        seen = torch.stack([corrected(Z, torch.full((8,), k), loss) for k in range(3)], 1)
        assert torch.allclose(seen @ T[c], loss(Z, torch.full((8,), c)), atol=1e-5)


def test_two_classes_by_hand():
    """Natarajan et al. 2013, lemma 1: ((1 - r_-y) l(y) - r_y l(-y)) / (1 - r_+ - r_-)."""
    r = (0.3, 0.1)
    matrix = torch.tensor([[1 - r[0], r[0]], [r[1], 1 - r[1]]])
    z, thing = torch.tensor([[0.4, -0.7]]), backward.build()
    thing.matrix = matrix
    state = SimpleNamespace(phase=1, loss=ce, info=SimpleNamespace(outputs=2))
    losses = [ce(z, torch.tensor([k])).item() for k in range(2)]
    for y in range(2):
        batch = Batch(z, torch.tensor([y]), torch.tensor([0]), z=z)
        by_hand = ((1 - r[1 - y]) * losses[y] - r[y] * losses[1 - y]) / (1 - r[0] - r[1])
        assert thing.losses(state, ce(z, batch.y), batch).item() == pytest.approx(by_hand, rel=1e-5)


def test_warmup_identity_and_what_the_learner_adds():
    y = torch.randint(3, (8,), generator=G)
    assert torch.equal(corrected(Z, y, phase=0), ce(Z, y))
    assert torch.allclose(corrected(Z, y, identity=1.0), ce(Z, y), atol=1e-5)
    assert torch.allclose(corrected(Z, y, extra=2.0), corrected(Z, y) + 2, atol=1e-5)
    halfway = 0.5 * T + 0.5 * torch.eye(3)
    assert torch.allclose(corrected(Z, y, identity=0.5), corrected(Z, y, matrix=halfway), atol=1e-5)


def test_the_reward_for_leaving_a_class_is_bounded():
    """The weights of the other classes are negative; however sure the network gets of its label, the loss stays above their floor."""
    y = torch.tensor([1])
    weights = torch.linalg.inv(T)[1]
    least = (weights.clamp_max(0) * -torch.log(torch.tensor(1e-7))).sum()
    found = corrected(torch.tensor([[0.0, 500.0, 0.0]]), y)
    assert found.item() == pytest.approx(least.item(), rel=1e-3)


def test_soft_targets_are_the_mean_over_labels():
    t = torch.rand(8, 3, generator=G)
    t = t / t.sum(1, keepdim=True)
    hard = torch.stack([corrected(Z, torch.full((8,), k)) for k in range(3)], 1)
    assert torch.allclose(corrected(Z, t), (t * hard).sum(1), atol=1e-5)
