import functools
from types import SimpleNamespace

import pytest
import torch

from runner import contracts
from runner.config import registry
from runner.core.clock import Clock
from runner.core.data import Batch

adaptive_k = registry.load("with", "adaptive_k")
N = 101
BATCH = Batch(torch.zeros(N, 1), torch.zeros(N), torch.arange(N))


def hook(**options):
    state = SimpleNamespace(clock=Clock(10, 1000), step=10, replay=False, per_sample={}, device="cpu", data=SimpleNamespace(train=range(N)))
    thing = adaptive_k.build(**options)
    thing.setup(state)
    return thing, state


def test_threshold_has_its_closed_form_for_a_constant_mean():
    """With mean loss L in every batch, m = (1 - b1^t) L and v = (1 - b2^t) L^2: the threshold is (1 - 0.9^t) / sqrt(1 - 0.999^t)."""
    losses = torch.linspace(0, 10, N)  # mean 5
    thing, state = hook(warmup="1ep")
    for t in range(1, 60):
        result = thing.losses(state, losses, BATCH)
        limit = (1 - 0.9**t) / (1 - 0.999**t) ** 0.5
        kept = [v for v in losses.tolist() if v <= limit]
        assert int(state.per_sample["selected"].sum()) == len(kept)
        assert result.mean().item() == pytest.approx(sum(kept) / len(kept), rel=1e-5)
        state.step += 1


def test_warmup_keeps_all_and_does_not_count():
    thing, state = hook(warmup="2ep")
    losses = torch.linspace(0, 10, N)
    assert torch.equal(thing.losses(state, losses, BATCH), losses)
    assert thing.m == 0
    assert thing.v == 0


def test_no_sample_below_the_threshold_means_no_gradient():
    thing, state = hook(warmup="0ep")
    losses = torch.full((N,), 50.0, requires_grad=True)  # threshold 3.2
    thing.losses(state, losses, BATCH).mean().backward()
    assert losses.grad.abs().sum() == 0


def test_mean_threshold_and_resume_after_the_warmup(monkeypatch):
    thing, state = hook(warmup="0ep", threshold="mean")
    thing.losses(state, torch.linspace(0, 10, N), BATCH)
    assert int(state.per_sample["selected"].sum()) == 51  # 0, 0.1, ..., 5
    monkeypatch.setattr(contracts, "config", functools.partial(contracts.config, args={"warmup": "5it"}))
    contracts.resume("with", "adaptive_k")
