"""Prototypes and contrast by loops; soft labels of a run against recorded guesses."""

import pytest
import torch
from small import loop, part
from torch.nn import functional as F

from runner import UserError, contracts
from runner.components.learner import ins


def unit(*shape, seed=0):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_prototypes_move_sample_by_sample():
    start, q, label = unit(3, 4), unit(12, 4, seed=1), torch.tensor([0, 1, 0, 0, 1, 0, 0, 0, 1, 0, 1, 1])
    expected = start.clone()
    for v, c in zip(q, label, strict=True):
        expected[c] = 0.9 * expected[c] + 0.1 * v
    assert torch.allclose(ins.moved(start, q, label, 0.9), F.normalize(expected), atol=1e-6)


def test_contrast_with_the_same_label_and_with_the_own_key():
    q, k, queue = unit(3, 4), unit(3, 4, seed=1), unit(5, 4, seed=2)
    label, queued = torch.tensor([0, 1, 0]), torch.tensor([1, 0, -1, 0, 1])
    found, alone = ins.contrast(q, k, queue, label, queued, 0.5), ins.contrast(q, k, queue, None, queued, 0.5)
    for b in range(3):
        others = [(v, int(c)) for a, (v, c) in enumerate(zip(torch.cat([q, k, queue]), torch.cat([label, label, queued]), strict=True)) if a != b]
        total = sum((q[b] @ v / 0.5).exp() for v, _ in others)
        terms = [-((q[b] @ v / 0.5).exp() / total).log() for v, c in others if c == int(label[b])]
        assert found[b].item() == pytest.approx(float(sum(terms)) / len(terms), rel=1e-5)
        keys = torch.cat([k[b : b + 1], queue])
        assert alone[b].item() == pytest.approx(F.cross_entropy((keys @ q[b] / 0.5)[None], torch.tensor([0])).item(), rel=1e-5)


def test_soft_labels_follow_prototypes_within_what_the_bag_allows():
    learner = ins.build(warmup="1ep", memory=0.8, queue=16, width=4)
    training = loop(learner=part(learner, "learner/ins"), duration="2ep")
    state, before = training.state, {}
    y = state.data.train.y
    start = torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5]])[y]  # class 0, or the label
    assert torch.equal(state.per_sample["ins"], start)

    def look(now):
        table = state.per_sample["ins"]
        if state.step <= 5:
            assert torch.equal(table, start)
        else:
            change = (table - before["table"]) @ torch.ones(3)
            assert torch.allclose(change, torch.zeros(40), atol=1e-6)
            seen = state.batch.i
            moved = (table[seen] - 0.8 * before["table"][seen]) / 0.2  # one-hot, at a class that is allowed
            assert torch.allclose(moved.amax(1), torch.ones(len(seen)), atol=1e-5)
            assert all(start[k, c] > 0 for k, c in zip(seen.tolist(), moved.argmax(1).tolist(), strict=True))
        before["table"] = table.clone()

    training.run(look)
    assert not torch.equal(state.per_sample["ins"], start)


def test_the_key_encoder_follows_once_a_step():
    learner = ins.build(queue=16, width=4, key_decay=0.75)
    state = loop(learner=part(learner, "learner/ins")).state
    first, batch = state.weights(), state.data.train.fetch(torch.arange(8))
    with torch.no_grad():
        for p in state.model.parameters():
            p += 1
    for piece in batch.chunk(2):  # as with trainer.accumulate=2
        learner.compute(state, piece)
    state.replay = True  # and for an optimizer that looks twice
    learner.compute(state, batch)
    key = dict(learner.key.named_parameters())
    assert all(torch.allclose(p, first[name] + 0.25, atol=1e-6) for name, p in key.items())
    state.step = 1
    learner.compute(state, batch)
    assert all(torch.allclose(p, first[name] + 0.4375, atol=1e-6) for name, p in key.items())
    state.load_weights(first, anew=True)
    state.step = 2
    learner.compute(state, batch)
    assert all(torch.equal(p, first[name]) for name, p in key.items())


def test_the_loss_of_bags_is_that_of_their_highest_scores():
    learner = ins.build(queue=16, width=4, bag=0.5)
    state = loop(learner=part(learner, "learner/ins")).state
    learner.bag = torch.arange(40) // 10
    whole = state.data.train.fetch(torch.arange(10, 20))
    whole.y = state.data.train.y[10:20] = torch.full((10,), 2)
    z = state.model(whole.x)
    top = (z[:, 1:].amax(1) - z[:, 0]).argmax()
    found = learner.bags(state, state.data.train.fetch(torch.tensor([12, 17])))
    assert found.item() == pytest.approx(0.5 * F.cross_entropy(z[top], torch.tensor(2)).item(), rel=1e-5)


@pytest.mark.parametrize("learner", ["ins", "nmtune"])
def test_what_changes_labels_is_refused_where_targets_are_the_learners_own(learner):
    with pytest.raises(UserError, match="both own 'targets'"):
        contracts.start({**contracts.config("learner", learner), "with": {"robustft": {"name": "robustft"}}})


def test_mixed_samples_are_refused():
    with pytest.raises(UserError, match="mixes them"):
        contracts.start({**contracts.config("learner", "ins"), "with": {"mixup": {"name": "mixup"}}}).run()
