"""ADELE: the fitted slope by its closed form, corrections by hand, the agreement of scales against the Jensen-Shannon divergence."""

import importlib
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon

from runner.core.data import Batch, Split
from runner.kernels import cross_entropy

adele = importlib.import_module("runner.components.with.adele")


@pytest.mark.parametrize(("a", "b", "c"), [(0.9, 1.0, 2.0), (0.7, 0.6, 1.0), (0.8, 0.9, 4.0)])
def test_the_slope_of_a_curve_is_found_again(a, b, c):
    t = np.arange(1, 16)
    slope = lambda t: a * b / c * t ** (b - 1) * math.exp(-(t**b) / c)
    for last in (5, 15):
        y = a * (1 - np.exp(-(t[:last] ** b) / c))
        expected = (slope(1) - slope(last)) / slope(1)
        assert adele.slowing(y[y >= adele.START]) == pytest.approx(expected, abs=0.02) or y[0] < adele.START
        for before in ([0.0, 0.02], [0.24, 0.11, 0.02, 0.0]):  # epochs before the class is found for good do not count
            assert adele.slowing([*before, *y]) == pytest.approx(adele.slowing(y), abs=1e-9)


def test_no_slope_without_a_curve():
    assert adele.slowing([]) == adele.slowing([0.5, 0.6, 0.7]) == adele.slowing([0.01] * 20) == 0.0
    assert adele.slowing([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]) < 0.7  # still rising
    assert adele.slowing([0.3, 0.6, 0.69, 0.7, 0.7, 0.7]) > 0.9


def test_corrections_by_hand():
    """Six pixels in a row; three classes beside the ground, of which class 1 is corrected."""
    labels = torch.tensor([[[0, 0, 1, 1, 2, 0]], [[0, 2, 2, 0, 0, 2]]])
    wish = torch.tensor([[[1, 0, 0, 2, 1, 3]], [[1, 1, 0, 0, 2, 2]]])
    sure = torch.tensor([[[1, 1, 1, 1, 1, 1]], [[1, 1, 1, 1, 1, 1]]]).float()
    p = torch.nn.functional.one_hot(wish, 4) * sure[..., None]
    chosen = torch.tensor([False, True, False, False])
    # first image: ground -> 1, ground stays, 1 -> ground; 1 -> 2 is not allowed, nor 2 -> 1, nor 0 -> 3; the second has no class 1: untouched
    expected = torch.tensor([[[1, 0, 0, 1, 2, 0]], [[0, 2, 2, 0, 0, 2]]])
    assert torch.equal(adele.corrected(labels, p, chosen, 0.7), expected)
    assert torch.equal(adele.corrected(labels, 0.69 * p, chosen, 0.7), labels)  # not sure enough
    both = torch.tensor([False, True, True, False])
    # with class 2 too, 1 -> 2 and 2 -> 1 are, and in the second image 2 -> ground and ground -> 2, but not to a class 1 that is not there
    assert torch.equal(adele.corrected(labels, p, both, 0.7), torch.tensor([[[1, 0, 0, 2, 1, 0]], [[0, 2, 0, 0, 2, 2]]]))
    assert torch.equal(chosen, torch.tensor([False, True, False, False]))


def state_of(n, classes, model=None):
    y = torch.randint(classes, (n, 4, 4), generator=torch.Generator().manual_seed(1))
    x = torch.randn(n, classes, 4, 4, generator=torch.Generator().manual_seed(2))
    model = model or torch.nn.Conv2d(classes, classes, 1)
    net = lambda v: model(v).movedim(1, -1)
    net.training, net.eval, net.train = True, lambda: None, lambda mode: None
    return SimpleNamespace(
        info=SimpleNamespace(outputs=classes), per_sample={}, data=SimpleNamespace(train=Split(x, y)), device="cpu", replay=False, model=net,
        loss=cross_entropy, predict=net, eval_batch=2,
    )  # fmt: skip


def step(hook, state, rows):
    batch = state.data.train.fetch(rows)
    hook.batch(state, batch)
    batch.z = state.model(batch.x)
    return batch, hook.losses(state, state.loss(batch.z, batch.t).flatten(1).mean(1), batch)


def test_the_agreement_of_two_scales_is_the_jensen_shannon_divergence():
    state, hook = state_of(3, 3), adele.build(scales=[0.5], lam=2.0, rho=0.0)
    hook.setup(state)
    batch, found = step(hook, state, torch.arange(3))
    (other,) = hook.outputs(state, batch.x)
    assert other.shape == batch.z.shape
    assert not torch.allclose(other, batch.z)
    p, q = (v.softmax(-1).detach().numpy() for v in (batch.z, other))
    divergence = torch.from_numpy(jensenshannon(p, q, axis=-1) ** 2).mean((1, 2))
    ce = (cross_entropy(batch.z, batch.y) + cross_entropy(other, batch.y)).mean((1, 2)) / 2
    assert torch.allclose(found.double(), ce.double() + 2 * divergence, atol=1e-5)
    hook.rho = 1.0  # no pixel is that sure: the agreement does not count
    assert torch.allclose(step(hook, state, torch.arange(3))[1], ce, atol=1e-6)


def test_iou_of_an_epoch_is_counted_over_its_batches():
    state, hook = state_of(6, 3), adele.build(scales=[])
    hook.setup(state)
    guesses = []
    for rows in torch.arange(6).split(4):
        guesses.append(step(hook, state, rows)[0].z.argmax(-1))
    state.replay = True
    step(hook, state, torch.arange(2))  # a second look does not count
    hook.epoch_end(state)
    guess, y = torch.cat(guesses), state.data.train.y
    expected = [((guess == c) & (y == c)).sum() / ((guess == c) | (y == c)).sum() for c in range(3)]
    assert hook.curves[0] == pytest.approx([v.item() for v in expected])
    assert hook.begun == [0, 0, 0]


def test_a_class_is_corrected_when_its_curve_flattens_and_then_every_so_many_epochs():
    class Perfect(torch.nn.Module):  # predicts classes given by hand
        def forward(self, x):
            return 9 * x

    state, hook = state_of(2, 3, Perfect()), adele.build(scales=[], every=3, drop=0.9)
    train = state.data.train
    hook.setup(state)
    curves = {1: [0.3, 0.6, 0.69, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7], 2: [0.01, 0.01, 0.01, 0.01, 0.3, 0.6, 0.69, 0.7, 0.7, 0.7]}
    changed, done = [], []
    hook.correct = lambda state, chosen: done.append(chosen.tolist())
    for k in range(10):
        hook.counts = torch.tensor([[0, 0, 0], [0, 1000, 1000], [0, 0, 0]])
        hook.counts[0] = hook.counts[2] = torch.tensor([0, int(1000 * curves[1][k]), int(1000 * curves[2][k])])
        done.clear()
        hook.epoch_end(state)
        changed.append(done[0] if done else None)
    first, second = hook.begun[1], hook.begun[2]
    assert (first, second) == (4, 8)
    assert changed[:3] == [None] * 3
    assert changed[3:10] == [[False, True, False], None, [False, True, False], None, [False, False, True], [False, True, True], None]
    del hook.correct
    hook.correct(state, torch.tensor([False, True, True]))
    p = (9 * train.x).movedim(1, -1).softmax(-1)
    assert torch.equal(state.per_sample["adele"], adele.corrected(train.y, p, torch.tensor([False, True, True]), 0.7))
    assert not torch.equal(state.per_sample["adele"], train.y)
    batch = Batch(train.x, train.y, torch.arange(2))
    hook.batch(state, batch)
    assert torch.equal(batch.t, state.per_sample["adele"])
