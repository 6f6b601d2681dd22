"""Selection among the disagreeing samples, against a plain computation sample by sample."""

from types import SimpleNamespace

import torch
from torch import nn
from torch.nn import functional as F

from runner.components.learner.co_teaching import build as co_teaching
from runner.components.learner.co_teaching_plus import build
from runner.core.clock import Clock
from runner.core.data import Batch
from runner.core.rng import Streams

N = 40


def setting(make=build, **options):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    state = SimpleNamespace(
        model=model, rng=Streams(0), device="cpu", data=SimpleNamespace(train=range(N)), per_sample={}, replay=False, step=0, clock=Clock(5, 100),
        loss=lambda z, t: F.cross_entropy(z, t, reduction="none"),
    )  # fmt: skip
    learner = make(forget=0.4, ramp="0ep", **options)
    learner.setup(state)
    g = torch.Generator().manual_seed(1)
    return learner, state, Batch(torch.randn(N, 4, generator=g), torch.randint(3, (N,), generator=g), torch.arange(N))


def test_each_learns_from_the_others_easiest_samples_among_those_in_dispute():
    learner, state, batch = setting(warmup="0ep")
    learner.compute(state, batch).mean().backward()
    nets = (state.model, learner.peer)
    with torch.no_grad():
        p = [[net(x[None])[0].log_softmax(0) for x in batch.x] for net in nets]
    disputed = [k for k in range(N) if p[0][k].argmax() != p[1][k].argmax()]
    assert 5 < len(disputed) < N
    kept = int(0.6 * len(disputed))
    easy = [sorted(disputed, key=lambda k, own=own: -own[k][batch.y[k]])[:kept] for own in p]
    assert set(easy[0]) != set(easy[1])
    for net, rows in zip(nets, (easy[1], easy[0]), strict=True):
        expected = torch.autograd.grad(F.cross_entropy(net(batch.x[rows]), batch.y[rows]), list(net.parameters()))
        for w, g in zip(net.parameters(), expected, strict=True):
            assert torch.allclose(w.grad, g, atol=1e-6)
    assert state.per_sample["selected"].tolist() == [((k in easy[0]) + (k in easy[1])) / 2 for k in range(N)]


def test_networks_of_one_mind_learn_nothing():
    learner, state, batch = setting(warmup="0ep")
    learner.peer.load_state_dict(state.model.state_dict())
    losses = learner.compute(state, batch)
    losses.mean().backward()
    assert not losses.any()
    assert not any(p.grad.any() for p in state.model.parameters())
    assert not state.per_sample["selected"].any()


def test_the_warmup_is_co_teaching():
    learner, state, batch = setting(warmup="2ep")
    plain, same, _ = setting(co_teaching)
    plain.peer.load_state_dict(learner.peer.state_dict())
    state.step = 9
    assert torch.equal(learner.compute(state, batch), plain.compute(same, batch))
    state.step = 10
    assert not torch.equal(learner.compute(state, batch), plain.compute(same, batch))
