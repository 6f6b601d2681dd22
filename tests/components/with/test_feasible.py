"""Multipliers by hand, and the solutions of problems that have one on paper."""

import importlib
from types import SimpleNamespace

import pytest
import torch

from runner.core.data import Batch

build = importlib.import_module("runner.components.with.feasible").build


def state_of(n):
    return SimpleNamespace(per_sample={}, replay=False, device="cpu", data=SimpleNamespace(train=range(n)))


def batch_of(rows):
    return Batch(torch.zeros(len(rows), 1), torch.zeros(len(rows), dtype=torch.long), torch.tensor(rows))


def test_multipliers_by_hand():
    state, hook = state_of(3), build(epsilon=0.5, rate=0.2, decay=0.5, init=1.0)
    hook.setup(state)
    losses = torch.tensor([2.0, 0.1])
    found = hook.losses(state, losses, batch_of([2, 0]))
    want = [1 + 0.2 * (2 - 0.5 - 0.5), 1 + 0.2 * (0.1 - 0.5 - 0.5)]
    assert found.tolist() == pytest.approx([want[0] * 2, want[1] * 0.1])
    assert state.per_sample["multiplier"].tolist() == pytest.approx([want[1], 1.0, want[0]])
    state.replay = True  # a second look in the same step
    assert hook.losses(state, losses + 1, batch_of([2, 0])).tolist() == pytest.approx([want[0] * 3, want[1] * 1.1])
    assert state.per_sample["multiplier"].tolist() == pytest.approx([want[1], 1.0, want[0]])


def solve(zeros, ones, steps=4000, **options):
    """The number that is trained on squared distances to so many zeros and ones, and the multipliers."""
    points = torch.tensor([0.0] * zeros + [1.0] * ones)
    state, hook, theta = state_of(len(points)), build(**options), torch.zeros((), requires_grad=True)
    hook.setup(state)
    for _ in range(steps):
        loss = hook.losses(state, (theta - points) ** 2 / 2, batch_of(list(range(len(points))))).sum()
        (slope,) = torch.autograd.grad(loss, theta)
        with torch.no_grad():
            theta -= 0.02 * slope
    return theta.item(), state.per_sample["multiplier"]


def test_resilient_bounds_of_zero_meet_at_the_cube_root():
    # multipliers l_i / decay: sum l_i l_i' = 0, so 8 theta^3 = (1 - theta)^3; the mean would be 1 / 9
    theta, multipliers = solve(8, 1, epsilon=0.0, decay=0.1, rate=0.1)
    assert theta == pytest.approx(1 / 3, abs=1e-3)
    assert multipliers[[0, 8]].tolist() == pytest.approx([5 / 9, 20 / 9], abs=1e-2)


def test_hard_bounds_are_met_where_they_can_be():
    theta, multipliers = solve(8, 1, epsilon=0.25, rate=0.1)
    low, high = 1 - 0.5**0.5, 0.5**0.5  # all of [low, high] is feasible
    assert low - 1e-3 <= theta <= high + 1e-3
    assert multipliers[:8].max() == 0  # the zeros' bound is slack all the way


def test_without_rate_it_weighs_alike():
    theta, _ = solve(8, 1, rate=0.0, init=1.0)
    assert theta == pytest.approx(1 / 9, abs=1e-4)
