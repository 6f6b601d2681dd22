from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from runner.components._learned import bring
from runner.components.learner._selection import shuffled
from runner.components.learner.co_teaching import build
from runner.core.clock import Clock
from runner.core.data import Batch
from runner.core.rng import Streams

N, K = 20, 12  # 40 % of 20 samples are left out


def setting(**options):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    state = SimpleNamespace(
        model=model, rng=Streams(0), device="cpu", data=SimpleNamespace(train=range(N)), per_sample={}, replay=False, step=0, clock=Clock(5, 100),
        loss=lambda z, t: F.cross_entropy(z, t, reduction="none"),
    )  # fmt: skip
    learner = build(forget=0.4, ramp="0ep", **options)
    learner.setup(state)
    g = torch.Generator().manual_seed(1)
    return learner, state, Batch(torch.randn(N, 4, generator=g), torch.randint(3, (N,), generator=g), torch.arange(N))


def test_what_a_network_brings_along_or_keeps_is_not_drawn_again():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 3))
    bring(model[0])
    model[1].requires_grad_(False)
    peer = shuffled(model, torch.Generator().manual_seed(1))
    assert all(torch.equal(mine, other) for k in (0, 1) for mine, other in zip(model[k].parameters(), peer[k].parameters(), strict=True))
    assert not torch.equal(model[2].weight, peer[2].weight)
    assert torch.equal(model[2].weight.flatten().sort()[0], peer[2].weight.flatten().sort()[0])


def test_each_network_learns_from_the_other_ones_smallest_losses():
    learner, state, batch = setting()
    learner.compute(state, batch).mean().backward()
    nets = (state.model, learner.peer)
    with torch.no_grad():
        losses = [[-float(net(x[None])[0].log_softmax(0)[y]) for x, y in zip(batch.x, batch.y, strict=True)] for net in nets]
    easy = [sorted(range(N), key=lambda k: values[k])[:K] for values in losses]
    assert set(easy[0]) != set(easy[1])
    for net, rows in zip(nets, (easy[1], easy[0]), strict=True):
        expected = torch.autograd.grad(F.cross_entropy(net(batch.x[rows]), batch.y[rows]), list(net.parameters()))
        for p, g in zip(net.parameters(), expected, strict=True):
            assert torch.allclose(p.grad, g, atol=1e-6)
    votes = [((k in easy[0]) + (k in easy[1])) / 2 for k in range(N)]
    assert state.per_sample["selected"].tolist() == votes


def test_the_peer_starts_elsewhere_with_the_same_distribution_and_its_own_stream():
    learner, state, _ = setting()
    for p, q in zip(state.model.parameters(), learner.peer.parameters(), strict=True):
        assert p.dim() < 2 or not torch.equal(p, q)
        assert torch.equal(p.flatten().sort()[0], q.flatten().sort()[0])
    again = shuffled(state.model, Streams(0)("learner/co_teaching"))
    assert all(torch.equal(p, q) for p, q in zip(again.parameters(), learner.peer.parameters(), strict=True))


def test_predictor():
    learner, state, batch = setting()
    assert torch.equal(learner.predict(state, batch.x), state.model(batch.x))
    learner, state, batch = setting(predictor="mean")
    mean = (state.model(batch.x).softmax(-1) + learner.peer(batch.x).softmax(-1)) / 2
    assert torch.allclose(learner.predict(state, batch.x).softmax(-1), mean, atol=1e-6)


def test_schedule_reaches_the_forget_rate_at_the_end_of_the_ramp():
    learner, state, batch = setting()
    learner.ramp = "4ep"
    kept = []
    for epoch in range(6):
        state.step = 5 * epoch
        learner.compute(state, batch)
        kept.append(int(state.per_sample["selected"].sum()))
    assert kept == [18, 16, 14, 12, 12, 12]  # 20 (1 - 0.4 min(T / 4, 1))
    state.replay = True
    before = state.per_sample["selected"].clone()
    batch.x = -batch.x
    learner.compute(state, batch)
    assert torch.equal(state.per_sample["selected"], before)


def test_the_peers_batch_norm_is_evaluated_like_the_first_networks():
    learner, state, batch = setting(predictor="mean")
    state.model.eval()
    learner.predict(state, batch.x)
    assert not learner.peer.training
    state.model.train()
    learner.compute(state, batch)
    assert learner.peer.training
    assert pytest.approx(1.0) == learner.predict(state, batch.x).softmax(-1).sum(1).mean().item()
