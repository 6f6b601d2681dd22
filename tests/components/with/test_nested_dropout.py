"""Truncation by hand, the distribution of k against its formula, and the best k against trying every one."""

import importlib

import pytest
import torch
from small import loop, part, weights
from torch import nn

from runner import contracts
from runner.core.data import Split
from runner.core.errors import UserError

module = importlib.import_module("runner.components.with.nested_dropout")
build, RUNG = module.build, module.CARD.rung


def nested(**options):
    return part(build(**options), "with/nested_dropout", rung=RUNG)


def truncated(training, x, k):
    """The model's outputs from its first k features."""
    first, last = training.state.model[:-1], training.state.model[-1]
    features = first(x)
    return features[:, :k] @ last.weight[:, :k].T + last.bias


def test_training_and_evaluation_use_the_first_features():
    training = loop(nested(sigma=3.0, units=2))
    state, hook = training.state, training.components[-1].object
    x = state.data.train.x[:4]
    for hook.drawn in range(1, 9):
        assert torch.allclose(state.model.train()(x), truncated(training, x, hook.drawn), atol=1e-6)
    hook.eval_enter(state)
    assert torch.allclose(state.model.eval()(x), truncated(training, x, 2), atol=1e-6)


def test_gradients_reach_no_further():
    training = loop(nested())
    training.components[-1].object.drawn = 3
    training.state.model.train()(training.state.data.train.x).square().sum().backward()
    first, last = training.state.model[0], training.state.model[-1]
    for rows in (first.weight.grad, last.weight.grad.T):
        assert (rows[:3].abs().sum(1) > 0).all()
        assert (rows[3:] == 0).all()


@pytest.mark.parametrize("mu", [0.0, 4.0])
def test_k_is_drawn_from_a_cut_off_normal_curve(mu):
    training = loop(nested(sigma=3.0, mu=mu))
    hook, counts = training.components[-1].object, torch.zeros(9)
    for _ in range(6000):
        hook.batch(training.state, None)
        counts[hook.drawn] += 1
    want = torch.tensor([0.0, *(2.718281828 ** (-(((k - mu) / 3) ** 2)) for k in range(1, 9))])
    want /= want.sum()
    assert ((counts / 6000 - want).abs() <= 4.5 * (want * (1 - want) / 6000).sqrt()).all()


@pytest.mark.parametrize(("options", "k"), [({"sigma": 1e-3}, 1), ({"sigma": 1.0, "mu": 100.0}, 8)])
def test_a_narrow_curve_far_from_all_k_draws_the_nearest(options, k):
    training = loop(nested(**options))
    hook = training.components[-1].object
    hook.batch(training.state, None)
    assert hook.drawn == k


def test_the_best_number_of_features_is_that_of_a_search():
    training = loop(nested(sigma=2.0), duration="6ep", n=120)
    state, hook = training.state, training.components[-1].object
    training.run()
    state.data.val = Split(state.data.train.x[:60], state.data.train.y[:60])
    state.model.train()
    hook.eval_enter(state)
    assert state.model.training
    right = [int((truncated(training, state.data.val.x, k).argmax(1) == state.data.val.y).sum()) for k in range(1, 9)]
    assert hook.used == 1 + right.index(max(right))
    state.data.val = None
    hook.eval_enter(state)
    assert hook.used == 8


def test_the_best_number_is_that_of_the_averaged_weights():
    name = "runner.components.with.weight_averaging"
    average = part(importlib.import_module(name).build(start=0.0), "with/weight_averaging", rung={"step_end": "average"})
    training = loop(nested(sigma=2.0), average)
    order = training.on.names["eval_enter"]
    assert order == ["with/weight_averaging", "with/nested_dropout"]


def test_the_best_number_is_that_of_the_network_that_predicts():
    training = contracts.start({**contracts.config("with", "nested_dropout", {"sigma": 2.0}), "learner": "mean_teacher"})
    g = torch.Generator().manual_seed(0)
    teacher = {name: torch.randn(value.shape, generator=g).to(value) for name, value in training.state.weights().items()}
    training.components[0].object.teacher = teacher  # far from the student
    state, hook = training.state, next(c.object for c in training.components if c.name == "with/nested_dropout")
    right = []
    state.model.eval()
    d = hook.classifier.in_features
    for hook.used in range(1, d + 1):
        right.append(int((state.predict(state.data.val.x).argmax(1) == state.data.val.y).sum()))
    hook.eval_enter(state)
    assert hook.used == 1 + right.index(max(right))


def test_training_does_not_depend_on_when_it_is_evaluated():
    def ends(every):  # ALIM asks the network in evaluation mode, at each step
        tree = contracts.config("with", "nested_dropout", {"units": 2}, duration="8it", eval_every=every)
        training = contracts.start({**tree, "noise": "partial", "with": {**tree["with"], "alim": {"name": "alim"}}})
        training.run()
        return weights(training)

    assert torch.equal(ends("8it"), ends("3it"))


def test_what_it_cannot_truncate_is_said():
    with pytest.raises(UserError, match="more than the 8 features"):
        loop(nested(units=9))
    with pytest.raises(UserError, match="none"):
        loop(nested(), model=nn.Sequential(nn.Unflatten(1, (1, 5)), nn.Conv1d(1, 3, 5), nn.Flatten()))
