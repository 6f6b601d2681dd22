"""The joint loss by hand, who learns from what, and the limits of the weight."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from runner.components.learner.co_teaching import build as co_teaching
from runner.components.learner.jocor import build
from runner.core.clock import Clock
from runner.core.data import Batch
from runner.core.rng import Streams

N, K = 20, 12  # 40 % of 20 samples are left out


def setting(make=build, **options):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    state = SimpleNamespace(
        model=model, rng=Streams(0), device="cpu", data=SimpleNamespace(train=range(N)), per_sample={}, replay=False, step=0, clock=Clock(5, 100),
        loss=lambda z, t: F.cross_entropy(z, t, reduction="none"),
    )  # fmt: skip
    learner = make(ramp="0ep", **{"forget": 0.4, **options})
    learner.setup(state)
    g = torch.Generator().manual_seed(1)
    return learner, state, Batch(torch.randn(N, 4, generator=g), torch.randint(3, (N,), generator=g), torch.arange(N))


def test_joint_loss_by_hand_over_its_smallest_values():
    learner, state, batch = setting(weight=0.7)
    found = learner.compute(state, batch).detach()
    with torch.no_grad():
        p, q = state.model(batch.x).softmax(-1).tolist(), learner.peer(batch.x).softmax(-1).tolist()
    joint = []
    for a, b, y in zip(p, q, batch.y.tolist(), strict=True):
        kl = lambda u, v: sum(s * torch.tensor(s / t).log().item() for s, t in zip(u, v, strict=True))
        joint.append(-0.3 * torch.tensor(a[y] * b[y]).log().item() + 0.7 * (kl(a, b) + kl(b, a)))
    easy = sorted(range(N), key=lambda k: joint[k])[:K]
    expected = torch.tensor([joint[k] * N / K if k in easy else 0.0 for k in range(N)])
    assert torch.allclose(found, expected, atol=1e-5)
    assert state.per_sample["selected"].nonzero()[:, 0].tolist() == sorted(easy)


def test_both_networks_learn_from_the_joint_loss_of_the_same_samples():
    learner, state, batch = setting(weight=0.5)
    learner.compute(state, batch).mean().backward()
    rows = state.per_sample["selected"].bool()
    z, other = state.model(batch.x[rows]), learner.peer(batch.x[rows])
    p, q = z.log_softmax(-1), other.log_softmax(-1)
    kl = F.kl_div(p, q, log_target=True, reduction="batchmean") + F.kl_div(q, p, log_target=True, reduction="batchmean")
    loss = 0.5 * (F.cross_entropy(z, batch.y[rows]) + F.cross_entropy(other, batch.y[rows])) + 0.5 * kl
    parameters = [*state.model.parameters(), *learner.peer.parameters()]
    for p, g in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        assert torch.allclose(p.grad, g, atol=1e-6)


def test_without_forgetting_or_agreement_it_is_two_networks_apart():
    learner, state, batch = setting(weight=0.0, forget=0.0)
    other, same, _ = setting(co_teaching, forget=0.0)
    assert torch.equal(state.model[0].weight, same.model[0].weight)
    other.peer.load_state_dict(learner.peer.state_dict())
    assert torch.allclose(learner.compute(state, batch), other.compute(same, batch), atol=1e-6)


def test_full_weight_ignores_the_labels():
    learner, state, batch = setting(weight=1.0)
    first = learner.compute(state, batch).mean()
    batch.t = (batch.y + 1) % 3
    assert learner.compute(state, batch).mean().item() == pytest.approx(first.item())
    learner.peer.load_state_dict(state.model.state_dict())
    assert learner.compute(state, batch).abs().max() < 1e-6
