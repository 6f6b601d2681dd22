"""The penalty and its memory, sample by sample in plain Python."""

import importlib
import math
from types import SimpleNamespace

import pytest
import torch

from runner.core.data import Batch

build = importlib.import_module("runner.components.with.elr").build


def state_of(n, classes):
    return SimpleNamespace(per_sample={}, replay=False, device="cpu", info=SimpleNamespace(outputs=classes), data=SimpleNamespace(train=torch.empty(n)))


def batch_of(z, rows):
    i = torch.tensor(rows)
    return Batch(torch.zeros(len(i), 1), torch.zeros_like(i), i, z=z)


def test_two_visits_by_hand():
    state, elr = state_of(4, 2), build(lam=2.0, beta=0.6)
    elr.setup(state)
    first = elr.penalty(state, batch_of(torch.tensor([[0.8, 0.2]]).log(), [3]))
    target = [0.4 * 0.8, 0.4 * 0.2]
    assert first.item() == pytest.approx(2 * math.log(1 - (target[0] * 0.8 + target[1] * 0.2)), rel=1e-5)
    second = elr.penalty(state, batch_of(torch.tensor([[0.5, 0.5], [0.3, 0.7]]).log(), [3, 0]))
    target = [0.6 * target[0] + 0.4 * 0.5, 0.6 * target[1] + 0.4 * 0.5]
    other = math.log(1 - 0.4 * (0.3**2 + 0.7**2))
    assert second.item() == pytest.approx(2 * (math.log(1 - 0.5 * sum(target)) + other) / 2, rel=1e-5)
    assert torch.allclose(state.per_sample["elr"][3], torch.tensor(target), atol=1e-6)
    assert not state.per_sample["elr"][[1, 2]].any()


def test_a_replay_does_not_update_and_the_slope_pulls_towards_the_memory():
    state, elr = state_of(2, 3), build()
    elr.setup(state)
    state.per_sample["elr"][0] = torch.tensor([0.9, 0.05, 0.05])
    state.replay = True
    before = state.per_sample["elr"].clone()
    z = torch.zeros(1, 3, requires_grad=True)
    elr.penalty(state, batch_of(z, [0])).backward()
    assert torch.equal(state.per_sample["elr"], before)
    assert z.grad[0, 0] < 0 < z.grad[0, 1]  # descent raises the remembered class
