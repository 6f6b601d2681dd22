"""AdaWAC: weights by algorithm 1 of the paper, the loss by hand, and where its saddle point lies."""

import importlib
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from runner import UserError
from runner.core.data import Batch
from runner.kernels import cross_entropy

adawac = importlib.import_module("runner.components.with.adawac")


class Net(nn.Module):
    """One number a pixel as its feature; logits (x, -x)."""

    def __init__(self):
        super().__init__()
        self.bottleneck = nn.Identity()

    def forward(self, x):
        f = self.bottleneck(x)
        return torch.cat([f, -f], 1).movedim(1, -1)


def state_of(n):
    data = SimpleNamespace(train=torch.zeros(n))
    stream = torch.Generator().manual_seed(0)
    return SimpleNamespace(model=Net(), loss=cross_entropy, data=data, device="cpu", per_sample={}, replay=False, rng=lambda name: stream)


def step(hook, state, x, y, i):
    batch = Batch(x, y, i)
    hook.batch(state, batch)
    batch.z = state.model(batch.x)
    own = state.loss(batch.z, batch.t).flatten(1).mean(1)
    return batch, hook.losses(state, own, batch)


def test_weights_and_losses_are_those_of_algorithm_1():
    x, y, i = torch.randn(2, 1, 4, 4), torch.randint(2, (2, 4, 4)), torch.tensor([2, 0])
    state, hook = state_of(3), adawac.build(lam=0.7, rate=1.5)
    hook.setup(state)
    weights = torch.full((3, 2), 0.5)
    for _ in range(3):
        batch, found = step(hook, state, x, y, i)
        one, two = batch.x, batch.extra["adawac"]
        ce = [cross_entropy(state.model(v), y).mean((1, 2)) for v in (one, two)]
        hook.features = []
        terms = torch.stack([sum(ce) / 2, 0.7 * (one - two).square().mean((1, 2, 3))], 1)
        weights[i] = weights[i] * (1.5 * terms).exp()
        weights /= weights.sum(1, keepdim=True)
        assert torch.allclose(state.per_sample["selected"], weights[:, 0], atol=1e-6)
        assert torch.allclose(found, (weights[i] * terms).sum(1), atol=1e-5)
    assert state.per_sample["selected"][1] == 0.5  # of a sample that was in no batch
    assert not torch.equal(one, two)


def test_the_labels_of_the_sample_that_they_say_less_of_lose_weight():
    """Ground alone, fitted: no loss to raise, so the agreement wins; a mask that is not fitted keeps its weight."""
    x = torch.full((2, 1, 4, 4), 3.0)
    y = torch.stack([torch.zeros(4, 4), torch.ones(4, 4)]).long()
    state, hook = state_of(2), adawac.build()
    hook.setup(state)
    for _ in range(20):
        step(hook, state, x, y, torch.arange(2))
    sparse, dense = state.per_sample["selected"].tolist()
    assert sparse < 0.05
    assert dense > 0.95


def test_other_calls_of_the_network_in_a_step_do_no_harm():
    """As of a teacher or a peer loss: before the step ends, and after it."""
    x, y, i = torch.randn(2, 1, 4, 4), torch.randint(2, (2, 4, 4)), torch.arange(2)
    alone, (state, hook) = state_of(2), (state_of(2), adawac.build(start=0.01, rate=1.0))
    other = adawac.build(start=0.01, rate=1.0)
    other.setup(alone)
    hook.setup(state)
    for _ in range(3):
        _, expected = step(other, alone, x, y, i)
        batch = Batch(x, y, i)
        hook.batch(state, batch)
        batch.z = state.model(batch.x)
        state.model(torch.randn(5, 1, 4, 4))
        own = state.loss(batch.z, batch.t).flatten(1).mean(1)
        state.model(9 * x)
        assert torch.equal(hook.losses(state, own, batch), expected)
        state.model(7 * x)
    assert torch.equal(state.per_sample["selected"], alone.per_sample["selected"])


def test_a_second_look_moves_no_weight_and_fixed_weights_stay():
    x, y = torch.randn(2, 1, 4, 4), torch.zeros(2, 4, 4).long()
    state, hook = state_of(2), adawac.build()
    hook.setup(state)
    state.replay = True
    step(hook, state, x, y, torch.arange(2))
    assert state.per_sample["selected"].tolist() == [0.5, 0.5]
    for start, rate in ((1.0, 2.0), (0.25, 0.0)):
        state, hook = state_of(2), adawac.build(start=start, rate=rate)
        hook.setup(state)
        batch, found = step(hook, state, x, y, torch.arange(2))
        assert torch.allclose(state.per_sample["selected"], torch.tensor(start))
        if start == 1:  # labels alone, on both views
            both = torch.cat([state.model(v) for v in (batch.x, batch.extra["adawac"])])
            assert torch.allclose(found, cross_entropy(both, y.repeat(2, 1, 1)).mean((1, 2)).view(2, 2).mean(0), atol=1e-6)


def test_views_keep_their_place_and_differ_by_what_is_asked():
    x = torch.randn(500, 2, 8, 8)
    seen = adawac.view(x, 0.3, torch.Generator().manual_seed(1))
    assert torch.equal(adawac.view(x, 0.0, torch.Generator()), x)
    correlation = torch.stack([torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1] for a, b in zip(x, seen, strict=True)])
    assert correlation.mean().item() == pytest.approx(1 / math.sqrt(1 + 0.3**2), abs=0.03)
    assert seen.mean((1, 2, 3)).std().item() == pytest.approx(0.3, abs=0.04)


def test_a_model_without_a_bottleneck_is_refused():
    state = state_of(1)
    state.model = nn.Linear(2, 2)
    with pytest.raises(UserError, match="bottleneck"):
        adawac.build().setup(state)
