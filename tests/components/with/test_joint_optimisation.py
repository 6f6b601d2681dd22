"""Targets and penalties by hand, and on a small run against predictions recorded from outside."""

import importlib
import math
from types import SimpleNamespace

import pytest
import torch
from small import loop, part

from runner.core.clock import Clock
from runner.core.data import Batch

joint = importlib.import_module("runner.components.with.joint_optimisation")


def state_of(y, classes, epoch=1):
    y = torch.tensor(y)
    data = SimpleNamespace(train=torch.utils.data.TensorDataset(y))
    data.train.y = y
    return SimpleNamespace(
        per_sample={}, replay=False, device="cpu", info=SimpleNamespace(outputs=classes), data=data, clock=Clock(epoch, 100), step=0, epoch=0
    )


def batch_of(p, rows):
    i = torch.tensor(rows)
    return Batch(torch.zeros(len(i), 1), torch.zeros_like(i), i, z=torch.tensor(p).log() + 3.0)


def test_penalties_by_hand():
    state, hook = state_of([0, 1], 2), joint.build(alpha=1.5, beta=0.5)
    hook.setup(state)
    found = hook.penalty(state, batch_of([[0.9, 0.1], [0.5, 0.5]], [0, 1]))
    mean = (0.7, 0.3)
    prior = sum(0.5 * math.log(0.5 / m) for m in mean)
    entropy = (-0.9 * math.log(0.9) - 0.1 * math.log(0.1) + math.log(2)) / 2
    assert found.item() == pytest.approx(1.5 * prior + 0.5 * entropy, rel=1e-5)


def test_penalties_vanish_where_they_should_and_pull_the_right_way():
    sure, state = [[1 - 2e-7, 1e-7, 1e-7], [1e-7, 1 - 2e-7, 1e-7], [1e-7, 1e-7, 1 - 2e-7]], state_of([0, 1, 2], 3)
    for p, options in ((sure, {}), ([[1 / 3] * 3], {"beta": 0.0})):  # sure and balanced: both vanish; undecided: the prior does
        hook = joint.build(**options)
        hook.setup(state)
        assert abs(hook.penalty(state, batch_of(p, list(range(len(p))))).item()) < 1e-4
    z = torch.tensor([[2.0, 0.0, 0.0]], requires_grad=True)
    for options, sign in (({"alpha": 1.0, "beta": 0.0}, 1), ({"alpha": 0.0, "beta": 1.0}, -1)):  # descent lowers, or raises, the favourite
        batch = batch_of([[0.3] * 3], [0])
        batch.z = z
        (slope,) = torch.autograd.grad(joint.build(**options).penalty(state_with(state, options), batch), z)
        assert slope[0, 0] * sign > 0


def state_with(state, options):
    joint.build(**options).setup(state)
    return state


def test_targets_by_hand_over_a_window_of_two():
    state, hook = state_of([0, 1], 2), joint.build(begin="2it", window=2)
    hook.setup(state)
    seen = [[[0.9, 0.1], [0.2, 0.8]], [[0.7, 0.3], [0.4, 0.6]], [[0.1, 0.9], [0.6, 0.4]]]
    expected = [None, [[0.8, 0.2], [0.3, 0.7]], [[0.4, 0.6], [0.5, 0.5]]]
    for epoch, p in enumerate(seen):
        state.epoch = epoch
        state.replay = False
        hook.penalty(state, batch_of(p, [0, 1]))
        state.replay = True  # a second look in the same step leaves no trace
        hook.penalty(state, batch_of([[0.5, 0.5], [0.5, 0.5]], [0, 1]))
        state.step = epoch + 1
        hook.epoch_end(state)
        batch = batch_of(p, [1, 0])
        hook.batch(state, batch)
        if expected[epoch] is None:
            assert batch.t is batch.y
        else:
            assert torch.allclose(batch.t, torch.tensor(expected[epoch])[[1, 0]], atol=1e-6)


def test_samples_never_seen_keep_their_labels():
    state, hook = state_of([0, 1], 2), joint.build(begin="1it", window=3)
    hook.setup(state)
    hook.penalty(state, batch_of([[0.6, 0.4]], [0]))
    state.step = 1
    hook.epoch_end(state)
    assert torch.allclose(state.per_sample["joint_optimisation"], torch.tensor([[0.6, 0.4], [0.0, 1.0]]), atol=1e-6)


def test_targets_of_a_run_are_the_recorded_mean_predictions():
    seen, targets = {}, {}

    def look(training):
        batch, epoch = training.state.batch, (training.state.step - 1) // training.state.clock.epoch
        for k, i in enumerate(batch.i.tolist()):
            seen[epoch, i], targets[epoch, i] = batch.z[k].detach().softmax(0), batch.t[k]

    training = loop(part(joint.build(begin="3ep", window=2), "with/joint_optimisation", rung={"batch": "target"}), duration="6ep", dropout=0.3)
    training.run(look)
    for (epoch, i), t in targets.items():
        if epoch < 3:
            assert t == training.state.data.train.y[i]
        else:
            assert torch.allclose(t, (seen[epoch - 1, i] + seen[epoch - 2, i]) / 2, atol=1e-6)


def test_what_an_epoch_leaves_out_is_not_averaged_from_before_the_window():
    last = {}

    def look(training):
        batch, epoch = training.state.batch, (training.state.step - 1) // training.state.clock.epoch
        for k, i in enumerate(batch.i.tolist()):
            last.setdefault(i, {})[epoch] = batch.z[k].detach().softmax(0)

    hook = part(joint.build(begin="1ep", window=2), "with/joint_optimisation", rung={"batch": "target"})
    training = loop(hook, duration="12it", batch_size=12, drop_last=True)  # each of four epochs of three steps leaves out four of the 40 samples
    training.state.clock = Clock(3, 12)
    training.run(look)
    left_out = [i for i, seen in last.items() if 3 not in seen and 2 in seen]
    assert left_out
    for i in left_out:
        assert torch.allclose(training.state.per_sample["joint_optimisation"][i], last[i][2], atol=1e-6)
