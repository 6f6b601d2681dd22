"""The split of the features, the two tasks and the teacher, written out for a network of a few features."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from runner import UserError, contracts


def started(**options):
    loop = contracts.start(contracts.config("learner", "rdcr", options))
    return loop, loop.components[0].object


def features(model, x):
    return model[:-1](x)


def test_losses_by_hand():
    loop, learner = started(rotation=0.7, consistency=30.0, share=0.25, ramp="0ep")
    state, last = loop.state, loop.state.model[-1]
    batch = state.data.train.fetch(torch.arange(6))
    cut = last.in_features // 4
    learner.teacher = {name: 1.1 * w for name, w in state.weights().items()}
    student = state.weights()
    state.load_weights(learner.teacher)
    f = features(state.model, batch.x)
    goal = (f[:, cut:] @ last.weight[:, cut:].T + last.bias).softmax(1).detach()
    state.load_weights(student)
    found = learner.compute(state, batch)
    for i in range(6):
        x, expected = batch.x[i : i + 1], 0.0
        for k in range(4):
            f = features(state.model, x.rot90(k, (-2, -1)))
            z = f[:, cut:] @ last.weight[:, cut:].T + last.bias
            if k == 0:
                expected = expected + F.cross_entropy(z, batch.y[i : i + 1])
            expected = expected + 0.7 * F.cross_entropy(learner.turn(f[:, :cut]), torch.tensor([k])) / 4
            expected = expected + 30.0 * ((z.softmax(1) - goal[i]) ** 2).mean() / 4
        assert torch.allclose(found[i], expected, atol=1e-5)


def test_turns_and_classes_share_no_features():
    loop, learner = started(share=0.5, consistency=0.0)
    state, last = loop.state, loop.state.model[-1]
    cut = last.in_features // 2
    turned, z = learner.read(state, state.data.train.fetch(torch.arange(3)).x)
    assert turned.shape == (3, cut)
    z.sum().backward()
    assert (last.weight.grad[:, :cut] == 0).all()
    assert (last.weight.grad[:, cut:] != 0).any()


def test_the_teacher_is_the_running_average_and_predicts():
    loop, learner = started(decay=0.8)
    mean, x = loop.state.weights(), loop.state.data.test.x[:5]

    def look(loop):
        decay = min(1 - 1 / (loop.state.step + 1), 0.8)
        for name, w in loop.state.weights().items():
            mean[name] = decay * mean[name] + (1 - decay) * w

    loop.run(look)
    for name, w in mean.items():
        assert torch.allclose(learner.teacher[name], w, atol=1e-6)
    state, cut = loop.state, loop.state.model[-1].in_features // 2
    found = learner.predict(state, x)
    state.load_weights(learner.teacher)
    last = state.model[-1]
    assert torch.allclose(found, features(state.model, x)[:, cut:] @ last.weight[:, cut:].T + last.bias, atol=1e-5)


def test_a_training_that_begins_anew_has_another_teacher():
    loop, learner = started(decay=0.9, ramp="4it")
    state, first = loop.state, loop.state.weights()
    loop.run()
    batch = state.data.train.fetch(torch.arange(4))
    state.load_weights(first, anew=True)
    assert torch.equal(learner.predict(state, batch.x), learner.read(state, batch.x)[1])
    found = learner.compute(state, batch)
    assert all(torch.equal(learner.teacher[name], w) for name, w in first.items())
    state.step = learner.begun = 0
    assert torch.equal(found, learner.compute(state, batch))  # the weight of the agreement rises again


def test_the_teacher_of_layers_that_compute_their_weights():
    tree = contracts.config("learner", "rdcr", {"decay": 0.8, "ramp": "0ep"}, duration="6it")
    loop = contracts.start({**tree, "sparsity": {"name": "nm"}})
    loop.run()
    state, learner, x = loop.state, loop.components[0].object, loop.state.data.test.x[:5]
    found = learner.predict(state, x)
    state.load_weights(learner.teacher)
    assert torch.equal(found, learner.read(state, x)[1])


def test_turns_are_learned():
    loop, learner = started(rotation=1.0)
    loop.run()
    x = loop.state.data.test.x
    with torch.no_grad():
        right = [(learner.turn(learner.read(loop.state, x.rot90(k, (-2, -1)))[0]).argmax(1) == k).float().mean() for k in range(4)]
    assert sum(right) / 4 > 0.4  # 0.25 by chance


def test_what_it_cannot_do_is_said():
    with pytest.raises(UserError, match="leaves none"):
        started(share=0.0)
    tree = contracts.config("learner", "rdcr")
    tree["data"] = {"name": "fashion_mnist", "train_size": 20, "test_size": 20}
    loop = contracts.start(tree)
    loop.state.model = nn.Sequential(nn.Flatten())
    with pytest.raises(UserError, match="none"):
        loop.components[0].object.setup(loop.state)
