"""MarvelOVD: confidences, assignment and weights by hand; which proposals a run uses before and after the burn-in."""

import importlib
from types import SimpleNamespace

import torch

from runner.components.data import scenes
from runner.components.loss._parts import cross_entropy
from runner.components.noise import open_vocabulary

marvel = importlib.import_module("runner.components.with.marvelovd")


def test_confidences_by_hand():
    """One image, four regions, classes 0 (nothing), 1 (base), 2 and 3 (novel)."""
    p = torch.tensor([[[0.5, 0.1, 0.3, 0.1], [0.8, 0.0, 0.1, 0.1], [0.1, 0.1, 0.4, 0.4], [0.2, 0.6, 0.1, 0.1]]])
    score = torch.tensor([[0.9, 0.8, 0.0, 0.0]])
    proposed, labelled = torch.tensor([[True, True, False, False]]), torch.tensor([[False, False, False, True]])
    found = marvel.confidence(score, p, proposed, labelled, torch.tensor([2, 3]))
    assert torch.allclose(found[0, :2], torch.tensor([(0.9 + 1) / 2, (0.8 + 0.2 / 0.4) / 2]))  # the likelier third region is no box of the image
    more = marvel.confidence(score, p, torch.tensor([[True, True, True, False]]), labelled, torch.tensor([2, 3]))
    assert torch.allclose(more[0, :2], torch.tensor([(0.9 + 0.4 / 0.8) / 2, (0.8 + 0.2 / 0.8) / 2]))


def test_assignment_by_hand():
    """Five regions; proposals at the second (class 3) and fourth (class 2); base object at the first, which the third overlaps by 0.55."""
    overlap = torch.eye(5)
    for a, b, v in ((0, 1, 0.6), (1, 2, 0.7), (2, 3, 0.8), (3, 4, 0.4)):
        overlap[a, b] = overlap[b, a] = v
    y, iou = torch.tensor([[1, 0, 1, 0, 0]]), torch.tensor([[0.9, 0.3, 0.55, 0.0, 0.0]])
    pseudo = torch.tensor([[0, 3, 0, 2, 0]])
    labels, given = marvel.assign(y, iou, pseudo, overlap, stratified=True)
    assert labels.tolist() == [[1, 3, 1, 2, 0]]
    assert given.tolist() == [[-1, 1, -1, 3, -1]]
    labels, given = marvel.assign(y, iou, pseudo, overlap, stratified=False)  # the third overlaps the fourth more than its object, the first does not
    assert labels.tolist() == [[1, 3, 2, 2, 0]]
    assert given.tolist() == [[-1, 1, 3, 3, -1]]


def state_of(step, burn_in, split, info, logits):
    model = lambda x: logits[: len(x)]
    return SimpleNamespace(
        step=step, clock=SimpleNamespace(steps=lambda length: burn_in), data=SimpleNamespace(train=split), info=info, device="cpu", per_sample={}, model=model,
        loss=cross_entropy,
    )  # fmt: skip


def setting():
    data = scenes.build(train_size=12, test_size=1, val_size=0)
    open_vocabulary.build()(data, torch.Generator().manual_seed(0))
    return data, 3 * torch.randn(12, len(data.info.regions), 7, generator=torch.Generator().manual_seed(1))


def run(step, data, logits, **options):
    state = state_of(step, 5, data.train, data.info, logits)
    hook = marvel.build(burn_in="5it", **options)
    hook.setup(state)
    batch = data.train.fetch(torch.arange(12))
    hook.batch(state, batch)
    batch.z = logits
    plain = cross_entropy(logits, batch.t)
    return state, batch, plain, hook.losses(state, plain.mean(1), batch)


def test_until_the_burn_in_ends_scores_alone_decide():
    data, logits = setting()
    state, batch, plain, losses = run(4, data, logits, threshold=0.9)
    used = data.train.side["score"] >= 0.9
    assert torch.equal(state.per_sample["mined"], torch.where(used, data.train.side["proposed"], 0))
    assert torch.equal(losses, plain.mean(1))
    assert (batch.t[used & (batch.y == 0)] == data.train.side["proposed"][used & (batch.y == 0)]).all()
    assert torch.equal(batch.t[batch.y > 0], batch.y[batch.y > 0])  # base objects first


def test_afterwards_the_detector_decides_and_weighs():
    data, logits = setting()
    state, batch, plain, losses = run(5, data, logits, threshold=0.85)
    p, side = logits.softmax(-1), data.train.side
    novel = side["proposed"][side["proposed"] > 0].unique()
    sure = marvel.confidence(side["score"], p, side["proposed"] > 0, batch.y > 0, novel)
    assert torch.equal(state.per_sample["mined"], torch.where(sure >= 0.85, side["proposed"], 0))
    expected = plain.clone()
    _, given = marvel.assign(batch.y, side["iou"], state.per_sample["mined"], marvel_overlap(data), True)
    assert (given >= 0).any()
    for i, a in (given >= 0).nonzero().tolist():
        expected[i, a] *= 1 - p[i, a, 0] + sure[i, given[i, a]]
    assert torch.allclose(losses, expected.mean(1), atol=1e-5)
    unweighed = run(5, data, logits, threshold=0.85, reweight=False)
    assert torch.equal(unweighed[3], unweighed[2].mean(1))
    mined_without = run(5, data, logits, threshold=0.85, mining=False)[0].per_sample["mined"]
    assert torch.equal(mined_without, torch.where(side["score"] >= 0.85, side["proposed"], 0))


def marvel_overlap(data):
    from torchvision.ops import box_iou

    boxes = torch.tensor(data.info.regions)
    return box_iou(boxes, boxes)


def test_above_one_no_proposal_is_used():
    data, logits = setting()
    state, batch, *_ = run(9, data, logits, threshold=2.0)
    assert not state.per_sample["mined"].any()
    assert torch.equal(batch.t, batch.y)


def test_without_proposals_labels_are_all_there_is():
    data, logits = setting()
    data.train.side = {}
    state, batch, plain, losses = run(9, data, logits)
    assert torch.equal(batch.t, batch.y)
    assert torch.equal(losses, plain.mean(1))
    assert not state.per_sample["mined"].any()
