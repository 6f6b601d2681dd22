"""Which loss moves which weights, and that the head at test time is the model's own."""

import pytest
import torch
from small import loop

from runner import UserError
from runner.components.learner.tram import build
from runner.core.card import card
from runner.core.events import Component


def made(privileged=None, **options):
    learner = build(**options)
    plain = loop(n=24)
    state = plain.state
    if privileged is not None:
        state.data.train.side["privileged"] = privileged
    learner.setup(state)
    return learner, state, state.data.train.fetch(torch.arange(8))


def test_features_learn_from_the_privileged_head_alone():
    learner, state, batch = made(weight=0.5)
    body, last = list(state.model[:-1].parameters()), list(state.model[-1].parameters())
    learner.compute(state, batch).mean().backward()
    got = [p.grad.clone() for p in body + last]
    hidden = state.model[:-1](batch.x)
    known = torch.relu(learner.privileged[:8] @ learner.read.weight.T + learner.read.bias)
    losses = torch.nn.functional.cross_entropy(learner.head(torch.cat([hidden, known], 1)), batch.y)
    for g, wanted in zip(got, torch.autograd.grad(0.5 * losses, body), strict=False):
        assert torch.allclose(g, wanted, atol=1e-6)
    plain = torch.nn.functional.cross_entropy(state.model[-1](hidden.detach()), batch.y)
    for g, wanted in zip(got[len(body) :], torch.autograd.grad(plain, last), strict=True):
        assert torch.allclose(g, wanted, atol=1e-6)
    assert torch.allclose(batch.z, state.model(batch.x))


def test_what_is_given_stands_before_what_is_random():
    given = torch.arange(24.0).unsqueeze(1)
    learner, _, _ = made(given, random=3)
    assert learner.privileged.shape == (24, 4)
    assert torch.equal(learner.privileged[:, :1], given)
    assert made(given, random=0)[0].privileged.shape == (24, 1)


def test_no_information_is_said():
    with pytest.raises(UserError, match="no privileged information"):
        made(random=0)


def test_its_head_is_trained():
    learner = build(random=4, width=8)
    run = loop(learner=Component("learner/tram", learner, card()), n=24)
    before = learner.head[0].weight.detach().clone()
    run.run()
    assert not torch.equal(before, learner.head[0].weight)
