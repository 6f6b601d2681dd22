"""The corrected prediction and the slopes of u and v by hand, and what grows out of them."""

import importlib
import math
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from runner.core.data import Batch
from runner.core.rng import Streams

sop = importlib.import_module("runner.components.with.sop")
P = [[0.2, 0.5, 0.3], [0.7, 0.2, 0.1]]
Y = [0, 0]


def ce(z, t):
    return F.cross_entropy(z, t, reduction="none")


def setting(n=4, u=None, v=None, **options):
    hook = sop.build(**options)
    state = SimpleNamespace(
        per_sample={}, replay=False, device="cpu", info=SimpleNamespace(outputs=3), data=SimpleNamespace(train=range(n)), rng=Streams(0), loss=ce,
    )  # fmt: skip
    hook.setup(state)
    if u is not None:
        state.per_sample["sop/u"], state.per_sample["sop/v"] = torch.tensor(u), torch.tensor(v)
    return hook, state


def visit(hook, state, p=P, y=Y, extra=0.0):
    batch = Batch(torch.zeros(len(y), 1), torch.tensor(y), torch.arange(len(y)), z=(torch.tensor(p).log() + 2.0).requires_grad_())
    state.batch = batch
    return hook.losses(state, ce(batch.z, batch.t) + extra, batch), batch


def by_hand(p, y, u, v):
    """The loss of the noisy label and the squared error of v, of one sample."""
    s = [u * u if c == y else -v[c] * v[c] for c in range(3)]
    q = [max(p[c] + s[c], 1e-4) for c in range(3)]
    error = sum(((p[c] == max(p)) + s[c] - (c == y)) ** 2 for c in range(3))
    return -math.log(max(q[y] / sum(q), 1e-4)), error


def test_loss_by_hand():
    u, v = [[0.5], [0.1]], [[0.3, 0.4, 0.2], [0.1, 0.2, 0.3]]
    hook, state = setting(2, u, v)
    found, _ = visit(hook, state, extra=1.5)
    for k in range(2):
        assert found[k].item() == pytest.approx(by_hand(P[k], Y[k], u[k][0], v[k])[0] + 1.5, rel=1e-4)


def test_steps_of_u_and_v_are_the_slopes_by_differences():
    u, v, h = [[0.5], [0.1]], [[0.3, 0.4, 0.2], [0.1, 0.2, 0.3]], 1e-5
    hook, state = setting(2, u, v, rate_u=0.3, rate_v=0.7)
    visit(hook, state)
    for k in range(2):
        slope = (by_hand(P[k], Y[k], u[k][0] + h, v[k])[0] - by_hand(P[k], Y[k], u[k][0] - h, v[k])[0]) / (2 * h)
        assert state.per_sample["sop/u"][k, 0].item() == pytest.approx(u[k][0] - 0.3 * slope / 2, rel=1e-3)
        for c in range(3):
            shifted = lambda d, k=k, c=c: by_hand(P[k], Y[k], u[k][0], [x + d * (j == c) for j, x in enumerate(v[k])])[1]
            slope = (shifted(h) - shifted(-h)) / (2 * h)
            assert state.per_sample["sop/v"][k, c].item() == pytest.approx(v[k][c] - 0.7 * slope / 2, rel=1e-3, abs=1e-6)


def test_u_explains_the_label_that_the_network_resists():
    hook, state = setting(2, rate_u=2.0, rate_v=2.0, scale=1e-4)
    p, y = [[0.02, 0.97, 0.01], [0.01, 0.97, 0.02]], [0, 1]
    first = visit(hook, state, p, y)[0]
    for _ in range(60):
        found, batch = visit(hook, state, p, y)
    assert first[0] > 3.5 > 0.7 > found[0]  # the label is explained, and
    before = torch.autograd.grad(ce(batch.z, batch.t)[0], batch.z, retain_graph=True)[0].norm()
    assert torch.autograd.grad(found[0], batch.z)[0].norm() < 0.2 * before  # the network is let alone
    assert state.per_sample["selected"][0] < 0.1 < 0.99 < state.per_sample["selected"][1]


def test_a_replay_learns_nothing():
    hook, state = setting(2, [[0.5], [0.1]], [[0.3, 0.4, 0.2], [0.1, 0.2, 0.3]])
    state.replay = True
    visit(hook, state)
    assert torch.equal(state.per_sample["sop/u"], torch.tensor([[0.5], [0.1]]))
