"""What is learned from what: features from images alone, the classifier from features alone."""

import io

import pytest
import torch
from small import loop as small_loop
from small import part
from torch import nn
from torch.nn import functional as F

from runner.components.learner.linear_probe import build
from runner.core import snapshot
from runner.core.data import Data, Info, Split
from runner.core.errors import UserError
from runner.core.events import Component


def loop(labels=None, shape=(1, 4, 4), report=lambda row: None, augment=None, **options):
    """Images of 4x4 in three classes."""
    g = torch.Generator().manual_seed(3)
    x, y = torch.randn(40, *shape, generator=g), torch.randint(3, (40,), generator=g)
    y = y if labels is None else labels
    learner = part(build(**options), "learner/linear_probe", owns=("phases",))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))
    return imaged(learner, model, Data(Info("classification", shape, 3), Split(x, y, augment), Split(x.clone(), y.clone())), report)


def imaged(learner: Component, model: nn.Module, data: Data, report):
    setup = learner.object.setup

    def first_the_data(state):
        state.data = data
        setup(state)

    learner.object.setup = first_the_data
    try:
        return small_loop(learner=learner, model=model, weight_decay=0.1, duration="4ep", log_every="1it", report=report)
    finally:
        del learner.object.setup


def body(training):
    return {name: w.clone() for name, w in training.state.model.state_dict().items() if not name.startswith("5.")}


def test_the_features_never_see_a_label_and_then_stand_still():
    zeros, ones = (loop(torch.full((40,), c), pretraining="2ep") for c in (0, 1))
    start, after = body(zeros), {}

    def look(training):
        if training.state.step == 10:
            after.update(body(training))

    zeros.run(look)
    ones.run()
    final, other = body(zeros), body(ones)
    assert not torch.equal(start["3.weight"], after["3.weight"])
    assert not torch.equal(start["1.running_mean"], after["1.running_mean"])
    for name, w in final.items():
        assert torch.equal(w, other[name])  # whatever the labels
        assert torch.equal(w, after[name])  # neither weight decay nor batch statistics move them while the classifier learns
    assert not torch.equal(zeros.state.model[5].weight, ones.state.model[5].weight)


def test_the_pretext_is_to_tell_four_rotations_apart():
    training = loop()
    state, learner = training.state, training.components[0].object
    batch = state.data.train.fetch(torch.tensor([3, 8]))
    state.model.eval()
    losses = learner.compute(state, batch)
    for k, loss in enumerate(losses):
        image, total = batch.x[k], 0.0
        for angle in range(4):
            total += F.cross_entropy(learner.turn(state.model[:5](image[None])), torch.tensor([angle])).item() / 4
            image = image.flip(-1).transpose(-1, -2)  # a quarter turn to the left: mirrored, then transposed
        assert loss.item() == pytest.approx(total, rel=1e-5)
    assert torch.allclose(batch.z, state.model(batch.x))
    assert not batch.z.requires_grad


def test_the_probe_is_logistic_regression_on_the_features():
    training = loop(pretext="none")
    state, learner = training.state, training.components[0].object
    assert len(training.phases) == 1
    batch = state.data.train.fetch(torch.arange(40))
    state.model.train()
    learner.compute(state, batch).mean().backward()
    with torch.no_grad():
        features = state.model.eval()[:5](batch.x)
        p = state.model[5](features).softmax(-1)
        slope = (p - F.one_hot(batch.y, 3)).T @ features / 40
    assert torch.allclose(state.model[5].weight.grad, slope, atol=1e-6)
    assert all(w.grad is None for layer in state.model[:5] for w in layer.parameters())


class Count:
    """Images that a layer is given while the learner computes."""

    def __init__(self, training):
        self.images, self.watching = 0, False
        training.state.model[0].register_forward_hook(self.add)
        compute = training.components[0].object.compute

        def watched(state, batch):
            self.watching = True
            losses = compute(state, batch)
            self.watching = False
            return losses

        training.components[0].object.compute = watched

    def add(self, layer, given, made):
        self.images += len(made) * self.watching


@pytest.mark.parametrize(("pretext", "turned"), [("none", 0), ("rotation", 2 * 4 * 40)])
def test_kept_features_are_computed_once_and_change_nothing(pretext, turned):
    seen, counts = [], []
    for keep in (False, True):
        rows: list = []
        training = loop(pretext=pretext, keep=keep, report=rows.append)
        counts.append(Count(training))
        training.run()
        seen.append([row["train/loss"] for row in rows])
    epochs = 2 if turned else 4
    assert [c.images for c in counts] == [turned + epochs * 40, turned + 40]
    assert len(seen[0]) == 20
    assert torch.allclose(torch.tensor(seen[0]), torch.tensor(seen[1]), atol=1e-5)


def test_a_batch_of_seen_and_unseen_images():
    training = loop(pretext="none", keep=True)
    state, learner, counted = training.state, training.components[0].object, Count(training)
    plain = loop(pretext="none")
    for rows, new in (([4, 9], 2), ([9, 17, 4, 3], 2), ([3, 4, 9, 17], 0)):
        before = counted.images
        losses = learner.compute(state, state.data.train.fetch(torch.tensor(rows)))
        assert counted.images - before == new
        batch = plain.state.data.train.fetch(torch.tensor(rows))
        assert torch.allclose(losses, plain.components[0].object.compute(plain.state, batch), atol=1e-6)
    assert state.per_sample["linear_probe"].isfinite().all(1).nonzero().flatten().tolist() == [3, 4, 9, 17]


class Halt(Exception):
    pass


def test_kept_features_survive_a_resume():
    straight = loop(keep=True)
    straight.run()

    def halt(training):
        if training.state.step == 13:  # in the first epoch of the probe: 24 of 40 features are there
            raise Halt

    first, file = loop(keep=True), io.BytesIO()
    with pytest.raises(Halt):
        first.run(halt)
    torch.save(snapshot.save(first), file)
    file.seek(0)
    second = loop(keep=True)
    snapshot.load(second, torch.load(file, weights_only=True))
    counted = Count(second)
    second.run()
    assert counted.images == 40 - 24
    assert all(torch.equal(w, straight.state.weights()[name]) for name, w in second.state.weights().items())


def test_what_it_cannot_do_is_said():
    with pytest.raises(UserError, match=r"learner\.keep=true .* augmented"):
        loop(keep=True, augment=lambda x, generator: x)
    with pytest.raises(UserError, match="square"):
        loop(shape=(1, 4, 5))
