"""Truncated networks and selections written out for a linear model, whose features are its inputs."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from runner.components.learner.nested_co_teaching import build
from runner.core.clock import Clock
from runner.core.data import Batch
from runner.core.errors import UserError
from runner.core.rng import Streams

N, D, CHOSEN = 20, 8, 12  # 40 % of 20 samples are left out


def setting(model=None, **options):
    torch.manual_seed(0)
    model = model or nn.Sequential(nn.Flatten(), nn.Linear(D, 3))
    state = SimpleNamespace(
        model=model, rng=Streams(0), device="cpu", data=SimpleNamespace(train=range(N)), per_sample={}, replay=False, step=10, clock=Clock(5, 100),
        loss=lambda z, t: F.cross_entropy(z, t, reduction="none"),
    )  # fmt: skip
    learner = build(**{"forget": 0.4, "pretraining": "2ep", "sigma": 3.0} | options)
    learner.setup(state)
    g = torch.Generator().manual_seed(1)
    return learner, state, Batch(torch.randn(N, D, generator=g), torch.randint(3, (N,), generator=g), torch.arange(N))


def losses(net, x, y, k):
    weight, bias = net[1].weight, net[1].bias
    return F.cross_entropy(x[:, :k] @ weight[:, :k].T + bias, y, reduction="none")


def test_each_learns_from_the_other_ones_easy_samples_through_the_drawn_features():
    learner, state, batch = setting(units=6)
    learner.batch(state, batch)
    learner.drawn = 2
    learner.compute(state, batch).mean().backward()
    nets = (state.model, learner.peer)
    easy = [losses(net, batch.x, batch.y, 6).argsort()[:CHOSEN].tolist() for net in nets]
    assert set(easy[0]) != set(easy[1])
    for net, rows in zip(nets, easy[::-1], strict=True):
        expected = torch.autograd.grad(losses(net, batch.x[rows], batch.y[rows], 2).mean(), [net[1].weight, net[1].bias])
        assert torch.allclose(net[1].weight.grad, expected[0], atol=1e-6)
        assert torch.allclose(net[1].bias.grad, expected[1], atol=1e-6)
        assert (net[1].weight.grad[:, 2:] == 0).all()
    assert state.per_sample["selected"].tolist() == [((k in easy[0]) + (k in easy[1])) / 2 for k in range(N)]


def test_before_the_selection_both_learn_from_all_samples():
    learner, state, batch = setting()
    state.step = 9
    learner.drawn = 5
    found = learner.compute(state, batch)
    assert torch.allclose(found, losses(state.model, batch.x, batch.y, 5) + losses(learner.peer, batch.x, batch.y, 5), atol=1e-6)
    assert (state.per_sample["selected"] == 1).all()


def test_k_follows_its_distribution_and_is_one_for_a_batch():
    learner, state, batch = setting()
    counts = torch.zeros(D + 1)
    for _ in range(6000):
        learner.batch(state, batch)
        counts[learner.drawn] += 1
    want = torch.tensor([0.0, *(2.718281828 ** (-((k / 3) ** 2)) for k in range(1, D + 1))])
    want /= want.sum()
    assert ((counts / 6000 - want).abs() <= 4.5 * (want * (1 - want) / 6000).sqrt()).all()
    learner, state, batch = setting(sigma=0.05)
    learner.batch(state, batch)
    assert learner.drawn == 1
    learner, state, batch = setting(sigma=0.0)
    learner.batch(state, batch)
    assert learner.drawn == D


def test_evaluations_use_the_first_units_of_both_networks():
    learner, state, batch = setting(units=3)
    learner.drawn = 7
    nets = (state.model, learner.peer)
    z = [batch.x[:, :3] @ net[1].weight[:, :3].T + net[1].bias for net in nets]
    assert torch.allclose(learner.predict(state, batch.x), (z[0] + z[1]) / 2, atol=1e-6)
    learner.predictor = "first"
    assert torch.allclose(learner.predict(state, batch.x), z[0], atol=1e-6)


def test_what_it_cannot_truncate_is_said():
    with pytest.raises(UserError, match="more than the 8 features"):
        setting(units=9)
    with pytest.raises(UserError, match="none"):
        setting(model=nn.Sequential(nn.Unflatten(1, (1, D)), nn.Conv1d(1, 3, D), nn.Flatten()))
