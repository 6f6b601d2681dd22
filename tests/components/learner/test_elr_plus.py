"""Targets, mixing and averaged weights of a few steps, written out beside a run."""

import math

import pytest
import torch
from torch.func import functional_call

from runner import contracts
from runner.components.learner.elr_plus import rise


def started(**options):
    loop = contracts.start(contracts.config("learner", "elr_plus", options))
    learner, state = loop.components[0].object, loop.state
    batch = state.data.train.fetch(torch.arange(12))
    state.batch = batch
    g = torch.Generator().manual_seed(3)
    for average in learner.averages:
        for value in average.values():
            value += 0.1 * torch.randn(value.shape, generator=g)
    state.per_sample["elr_plus"] = torch.rand(len(state.data.train), 2, 10, generator=g).softmax(-1)
    return learner, state, batch


def test_losses_by_hand(monkeypatch):
    learner, state, batch = started(lam=2.0, beta=0.6)
    draws, nets = [], (state.model, learner.peer)
    mixing = learner.mixing
    monkeypatch.setattr(learner, "mixing", lambda *args: draws.append(mixing(*args)) or draws[-1])
    before = state.per_sample["elr_plus"].clone()
    p = [functional_call(net, average, (batch.x,)).softmax(1).detach() for net, average in zip(nets, learner.averages, strict=True)]
    found = learner.compute(state, batch)
    y, expected = torch.eye(10)[batch.y], torch.zeros(12)
    for k in range(2):
        share, partner = draws[k]
        assert 0.5 <= share <= 1
        targets = 0.6 * before[:12, k] + 0.4 * p[1 - k]  # what the other network's average predicts
        assert torch.allclose(state.per_sample["elr_plus"][:12, k], targets, atol=1e-6)
        z = nets[k](share * batch.x + (1 - share) * batch.x[partner])
        q, goal = share * targets + (1 - share) * targets[partner], share * y + (1 - share) * y[partner]
        expected = expected - (goal * z.log_softmax(1)).sum(1) + 2.0 * (1 - (q * z.softmax(1)).sum(1)).log()
    assert torch.allclose(found, expected, atol=1e-5)
    assert not torch.equal(draws[0][1], draws[1][1])
    state.replay, now = True, state.per_sample["elr_plus"].clone()
    learner.compute(state, batch)
    assert torch.equal(state.per_sample["elr_plus"], now)


def test_without_mixing_each_sample_keeps_to_itself():
    learner, state, batch = started(alpha=0.0)
    whole = learner.compute(state, batch)
    state.replay = True
    assert torch.allclose(learner.compute(state, batch.take(slice(0, 5))), whole[:5], atol=1e-6)


def test_averages_follow_each_step():
    loop = contracts.start(contracts.config("learner", "elr_plus", {"decay": 0.9, "rise_decay": "4it"}, duration="6it"))
    learner = loop.components[0].object
    nets = (loop.state.model, learner.peer)
    expected = [{n: w.clone() for n, w in net.state_dict().items()} for net in nets]

    def look(loop):
        decay = 0.9 * math.exp(-5 * (1 - min(1.0, (loop.state.step + 1) / 4)) ** 2)
        for net, average in zip(nets, expected, strict=True):
            for name, value in net.state_dict().items():
                average[name] = decay * average[name] + (1 - decay) * value

    loop.run(look)
    for mine, average in zip(learner.averages, expected, strict=True):
        for name, value in average.items():
            assert torch.allclose(mine[name], value, atol=1e-6)
            assert not mine[name].requires_grad


@pytest.mark.parametrize(("step", "value"), [(0, math.exp(-5)), (5, math.exp(-1.25)), (10, 1.0), (99, 1.0)])
def test_rise(step, value):
    assert rise(step, 10) == pytest.approx(value)
    assert rise(step, 0) == 1
