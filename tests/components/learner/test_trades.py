import itertools
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from runner import UserError
from runner.components.learner.trades import build
from runner.core.data import Batch
from runner.core.rng import Streams


def setting(model, step=3):
    return SimpleNamespace(model=model, rng=Streams(0), step=step, loss=lambda z, t: F.cross_entropy(z, t, reduction="none"))


def linear(inputs=4, classes=2, seed=0):
    torch.manual_seed(seed)
    return nn.Linear(inputs, classes).double()


def kl(model, x, other):
    p, q = model(x).softmax(1), model(other).softmax(1)
    return (p * (p / q).log()).sum(1)


def test_linear_model_of_two_classes_is_attacked_at_the_worst_corner():
    """The divergence grows along w_1 - w_0 both ways: its two local maxima are corners, and the larger is the largest of all 16 corners."""
    model = linear()
    x = torch.rand(12, 4, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    moved = build(epsilon=0.2, step=0.05, steps=10, low=None, high=None).attack(setting(model), x)
    corners = torch.stack([kl(model, x, x + 0.2 * torch.tensor(s, dtype=torch.double)) for s in itertools.product((-1, 1), repeat=4)])
    found = kl(model, x, moved)
    slope = 0.2 * (model.weight[1] - model.weight[0]).sign()
    sides = torch.stack([kl(model, x, x + slope), kl(model, x, x - slope)])
    assert torch.allclose(corners.max(0)[0], sides.max(0)[0])
    assert torch.minimum((found - sides[0]).abs(), (found - sides[1]).abs()).max() < 1e-9  # which of the two hangs on the random start


def test_bounds_hold():
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
    x = torch.rand(40, 6, generator=torch.Generator().manual_seed(2))
    moved = build(epsilon=0.1, step=0.07, steps=5).attack(setting(model), x)
    assert (moved - x).abs().max() <= 0.1 + 1e-6
    assert moved.min() >= 0
    assert moved.max() <= 1
    free = build(epsilon=0.1, step=0.07, steps=5, low=None, high=None).attack(setting(model), x)
    assert free.min() < 0 or free.max() > 1
    assert model.training
    assert all(p.grad is None for p in model.parameters())


def test_loss_is_cross_entropy_plus_beta_times_the_divergence():
    model = linear(5, 3)
    x = torch.rand(7, 5, generator=torch.Generator().manual_seed(3), dtype=torch.double)
    batch = Batch(x, torch.tensor([0, 1, 2, 0, 1, 2, 0]), torch.arange(7))
    learner, state = build(beta=6.0, epsilon=0.05), setting(model)
    found = learner.compute(state, batch)
    moved = learner.attack(setting(model), x)  # the same stream from its start
    by_hand = F.cross_entropy(model(x), batch.y, reduction="none") + 6 * kl(model, x, moved)
    assert torch.allclose(found, by_hand)
    gradient = torch.autograd.grad(found.sum(), model.weight)[0]
    assert torch.allclose(gradient, torch.autograd.grad(by_hand.sum(), model.weight)[0])  # it flows through both predictions


def test_inputs_outside_their_range_are_refused():
    batch = Batch(torch.full((2, 4), -1.5, dtype=torch.double), torch.tensor([0, 1]), torch.arange(2))
    with pytest.raises(UserError, match=r"the inputs go from -1\.5"):
        build().compute(setting(linear(), step=0), batch)
