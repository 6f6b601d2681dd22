"""The paper's invariance: with alpha = 1 the expected peer loss under noisy labels is the clean one, scaled."""

import importlib
from types import SimpleNamespace

import pytest
import torch
from small import loop, part
from torch.nn import functional as F

from runner.core.clock import Clock
from runner.core.data import Batch
from runner.core.rng import Streams

build = importlib.import_module("runner.components.with.peer_loss").build
G = torch.Generator().manual_seed(0)
N, C = 12, 4
Z = torch.randn(N, C, generator=G)


def state_of(step=0, labels=None):
    return SimpleNamespace(
        step=step, clock=Clock(10, 100), rng=Streams(0), data=SimpleNamespace(train=SimpleNamespace(y=labels)),
        loss=lambda z, t: F.cross_entropy(z, t, reduction="none"),
    )  # fmt: skip


def expected_peer_loss(posterior, alpha):
    """Over P(x, y) = posterior / N, with the peer term of every pair of an input and a label weighed by P(x) P(y)."""
    rows, labels = (v.flatten() for v in torch.meshgrid(torch.arange(N), torch.arange(C), indexing="ij"))
    marginal = posterior.mean(0)
    total = (posterior * -Z.log_softmax(-1)).sum(-1).mean()
    for k in range(C):
        pairs = rows[labels == k]
        batch = Batch(torch.zeros(N, 1), torch.zeros(N, dtype=torch.long), pairs, z=Z[pairs], extra={"peer_loss": torch.full((N,), k)})
        total = total + marginal[k] * build(alpha=alpha, floor=1e-9).penalty(state_of(), batch)
    return total.item()


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.7])
def test_noisy_peer_loss_is_clean_peer_loss_scaled(rate):
    clean = torch.rand(N, C, generator=G).pow(2)
    clean = clean / clean.sum(1, keepdim=True)
    flip = torch.full((C, C), rate / (C - 1)).fill_diagonal_(1 - rate)
    scale = 1 - rate * C / (C - 1)
    assert expected_peer_loss(clean @ flip, 1.0) == pytest.approx(scale * expected_peer_loss(clean, 1.0), abs=1e-5)
    assert expected_peer_loss(clean @ flip, 0.5) != pytest.approx(scale * expected_peer_loss(clean, 0.5), abs=1e-2)  # the balance is alpha = 1's


def test_it_grows_and_stays_bounded():
    batch = Batch(torch.zeros(1, 1), torch.tensor([0]), torch.tensor([0]), z=torch.tensor([[90.0, 0.0]]), extra={"peer_loss": torch.tensor([1])})
    hook = build(alpha=3.0, begin="2ep", ramp="4ep", floor=1e-5)
    bound = torch.log(torch.tensor((1 + 2e-5) / 1e-5)).item()
    for step, share in ((0, 0), (19, 0), (30, 0.25), (40, 0.5), (60, 1), (99, 1)):
        assert hook.penalty(state_of(step), batch).item() == pytest.approx(-3 * share * bound, rel=1e-4, abs=1e-9)


def test_labels_are_drawn_from_all_samples_in_proportion():
    labels = torch.tensor([0, 1, 1, 1])
    state, hook, batch = state_of(labels=labels), build(), Batch(torch.zeros(4000, 1), torch.zeros(4000, dtype=torch.long), torch.arange(4000))
    hook.batch(state, batch)
    assert batch.extra["peer_loss"].float().mean().item() == pytest.approx(0.75, abs=0.03)


def test_accumulating_gradients_changes_nothing():
    def ends(pieces):
        made = loop(part(build(alpha=0.5), "with/peer_loss", rung={"batch": "target"}), accumulate=pieces)
        made.run()
        return torch.cat([p.flatten() for p in made.state.model.parameters()])

    assert torch.allclose(ends(1), ends(2), atol=1e-5)
