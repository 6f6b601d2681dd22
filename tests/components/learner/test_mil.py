"""Each pooling by a loop over the bags; a step sees whole bags."""

from dataclasses import replace

import pytest
import torch
from small import loop, part
from torch.nn import functional as F

from runner import UserError
from runner.components.learner.mil import build

BAG = torch.tensor([0, 1, 2, 1, 0, 2, 2, 1] * 5)


class WithBags:
    """Puts the bags into the data before the learner looks for them."""

    def __init__(self, learner):
        self.learner = learner

    def setup(self, state):
        state.data.train.side["bag"] = BAG.to(state.device)
        state.data.train.y = state.data.train.y[[0, 1, 2]][state.data.train.side["bag"]]
        self.learner.setup(state)

    def __getattr__(self, name):
        return getattr(self.learner, name)


@pytest.mark.parametrize("pooling", ["mean", "max", "attention"])
def test_the_loss_of_a_bag(pooling):
    learner = build(pooling, bags=3)
    state = loop(learner=part(WithBags(learner), "learner/mil", rung={"batch": "select"})).state
    batch = learner.batch(state, state.data.train.fetch(torch.tensor([4, 1, 30])))
    present = sorted({int(BAG[k]) for k in (4, 1, 30)})
    assert sorted(batch.i.tolist()) == [k for k in range(40) if int(BAG[k]) in present]
    losses = learner.compute(state, batch)
    hidden, last = state.model[:-1], state.model[-1]
    for b in present:
        rows = BAG[batch.i] == b
        x, y = batch.x[rows], batch.y[rows][0]
        z, h = state.model(x), hidden(x)
        if pooling == "mean":
            expected = -z.softmax(1).mean(0)[y].log()
        elif pooling == "max":
            expected = F.cross_entropy(max(z, key=lambda v: (v[1:].max() - v[0]).item()), y)
        else:
            tanh, sigmoid, weight = learner.gate
            a = torch.stack([weight(tanh(v).tanh() * sigmoid(v).sigmoid())[0] for v in h]).softmax(0)
            expected = F.cross_entropy(last((a[:, None] * h).sum(0)), y)
        assert torch.allclose(losses[rows], expected.expand(int(rows.sum())), atol=1e-5)


def test_a_regression_is_the_mean_of_scores_between_0_and_1():
    learner = build("mean", bags=2)
    state = loop(learner=part(WithBags(learner), "learner/mil", rung={"batch": "select"})).state
    state.data.info = replace(state.info, task="regression")
    state.loss = lambda z, t: (z - t).square().mean(-1)
    batch = learner.batch(state, state.data.train.fetch(torch.tensor([0, 1])))
    batch.t = torch.rand(3, 3)[BAG[batch.i]]
    losses = learner.compute(state, batch)
    for k in range(len(batch.i)):
        rows = BAG[batch.i] == BAG[batch.i[k]]
        expected = (state.model(batch.x[rows]).sigmoid().mean(0) - batch.t[k]).square().mean()
        assert losses[k].item() == pytest.approx(expected.item(), abs=1e-6)
    assert torch.allclose(learner.predict(state, batch.x), state.model(batch.x).sigmoid())


def test_without_bags_each_sample_is_one():
    learner = build("max", bags=5)
    state = loop(learner=part(learner, "learner/mil", rung={"batch": "select"})).state
    batch = learner.batch(state, state.data.train.fetch(torch.arange(8)))
    assert len(batch.i) == 5
    assert torch.allclose(learner.compute(state, batch), F.cross_entropy(state.model(batch.x), batch.y, reduction="none"))


def test_pieces_that_cut_bags_are_refused():
    halves = {"duration": "1it", "accumulate": 2}
    with pytest.raises(UserError, match="whole bags"):
        loop(learner=part(WithBags(build("mean", bags=3)), "learner/mil", rung={"batch": "select"}), **halves).run()
    loop(learner=part(build("mean"), "learner/mil", rung={"batch": "select"}), **halves).run()  # a sample is a bag here


def test_bags_count_the_same_whatever_their_size():
    learner = build("mean", bags=3)
    state = loop(learner=part(WithBags(learner), "learner/mil", rung={"batch": "select"})).state
    batch = learner.batch(state, state.data.train.fetch(torch.tensor([0, 1, 2])))  # bags of 10, 15 and 15
    losses = learner.compute(state, batch)
    each = [losses[BAG[batch.i] == b][0] for b in range(3)]
    assert torch.allclose((batch.w * losses).mean(), torch.stack(each).mean())
    assert learner.batch(state, state.data.train.fetch(torch.tensor([1, 2]))).w is None  # two of 15
