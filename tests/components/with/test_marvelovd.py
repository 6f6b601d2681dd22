"""MarvelOVD: confidences, assignment and weights by hand; which proposals a run uses before and after the burn-in."""

import importlib
from types import SimpleNamespace

import pytest
import torch

from runner.components.data import scenes
from runner.components.noise import open_vocabulary
from runner.kernels import cross_entropy

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


class Fixed(torch.nn.Module):
    """A detector that says of a box what a table says of its left edge; it must be asked in evaluation mode, about the images given."""

    def __init__(self, table, images):
        super().__init__()
        self.table, self.images, self.asked = table, images, []

    def forward(self, x, regions):
        assert not self.training
        assert torch.equal(x, self.images)
        self.asked.append(regions)
        logits = torch.stack([torch.stack([self.table[round(float(box[0]), 1)] for box in boxes]) for boxes in regions]).log()
        return logits, torch.zeros_like(regions)


def boxes_setting():
    """Two images, 100 pixels wide, of classes 0 and 1 (novel: 1 and 2), the second one mirrored; by the left edges of boxes as they are seen."""
    nothing = [-1.0] * 6
    proposals = torch.tensor(
        [[[1.0, 30, 0, 40, 10, 0.95], [2, 50, 0, 60, 10, 0.8], nothing], [[1, 20, 0, 40, 10, 0.9], [2, 70, 0, 90, 10, 0.86], [1, 80, 5, 88, 9, 0.6]]]
    )
    table = {
        10.0: [0.1, 0.5, 0.3, 0.1], 30.0: [0.4, 0.4, 0.1, 0.1], 50.0: [0.1, 0.1, 0.4, 0.4], 60.0: [0.5, 0.1, 0.3, 0.1], 12.0: [0.7, 0.2, 0.05, 0.05],
        5.0: [0.2, 0.3, 0.25, 0.25], 70.0: [0.6, 0.2, 0.1, 0.1], -1.0: [0.1, 0.1, 0.4, 0.4], 101.0: [0.1, 0.1, 0.4, 0.4],
    }  # fmt: skip
    objects = torch.tensor([[[0.0, 10, 0, 20, 10], [1, 31, 0, 40, 10]], [[2, 95, 0, 97, 10], [-1] * 5]])
    train = SimpleNamespace(side={"proposals": proposals, "objects": objects}, y=torch.tensor([[1, 0], [0, 0]]))
    train.clean = torch.tensor([[1, 2], [3, 0]])
    batch = SimpleNamespace(x=torch.randn(2, 3, 4, 4), y=train.y, t=train.y, i=torch.arange(2), extra={"turned": torch.tensor([False, True])})
    batch.extra["boxes"] = torch.tensor([[[10.0, 0, 20, 10], [30, 0, 40, 10]], [[5, 0, 7, 10], [-1] * 4]])
    return train, batch, {k: torch.tensor(v) for k, v in table.items()}


def boxes_run(step, change=lambda train, batch: None, **options):
    train, batch, table = boxes_setting()
    change(train, batch)
    clock, model = SimpleNamespace(steps=lambda length: 5), Fixed(table, batch.x)
    data = type("Train", (), {"__len__": lambda self: 2, **vars(train)})()
    state = SimpleNamespace(
        step=step, clock=clock, data=SimpleNamespace(train=data), info=SimpleNamespace(regions=(), shape=(3, 4, 100)), device="cpu", per_sample={}, model=model,
        loss=cross_entropy,
    )  # fmt: skip
    hook = marvel.build(burn_in="5it", **options)
    hook.setup(state)
    hook.batch(state, batch)
    return state, hook, batch


def test_boxes_of_the_burn_in_by_hand():
    state, hook, batch = boxes_run(4)
    assert hook.novel.tolist() == [2, 3]
    assert batch.t.tolist() == [[1, 0, 2, 0, 0], [0, 0, 2, 0, 0]]
    assert state.per_sample["mined"].tolist() == [[2, 0, 0], [2, 0, 0]]
    assert batch.extra["later"].tolist() == [[False, False, True, False, False]] * 2
    assert batch.extra["boxes"][0, 2].tolist() == [30, 0, 40, 10]
    assert batch.extra["boxes"][1, 2:4].tolist() == [[60, 0, 80, 10], [10, 0, 30, 10]]
    assert not state.model.asked
    batch.extra |= {"given": torch.tensor([[0, 2, -1], [2, -1, -1]]), "share": torch.tensor([[0.4, 0.3, 0.3], [0.5, 0.5, 0]])}
    batch.t, batch.z = torch.tensor([[1, 2, 0], [2, 0, 0]]), torch.randn(2, 3, 4)
    plain = cross_entropy(batch.z, batch.t)
    found = hook.losses(state, torch.tensor([7.0, 8.0]), batch)
    assert torch.allclose(found, torch.stack([7 + 0.3 * (0.95 - 1) * plain[0, 1], 8 + 0.5 * (0.9 - 1) * plain[1, 0]]))


def test_boxes_after_the_burn_in_by_hand():
    """Confidences: of the first image (.95 + .2 / .8) / 2 and (.8 + .8 / .8) / 2, of the second .45 + .4 / .8, .43 + .4 / .8, .3 + .1 / .8; likelier
    boxes that nobody labelled do not count."""
    state, hook, batch = boxes_run(5, threshold=0.88)
    assert state.model.training
    confident = batch.extra["marvelovd"].tolist()
    assert confident[0][2:4] == pytest.approx([0.6, 0.9])
    assert confident[1][2:] == pytest.approx([0.95, 0.93, 0.425])
    assert state.per_sample["mined"].tolist() == [[0, 3, 0], [2, 3, 0]]
    assert batch.t.tolist() == [[1, 0, 0, 3, 0], [0, 0, 2, 3, 0]]
    batch.extra |= {"given": torch.tensor([[0, 3, -1], [2, 3, -1]]), "share": torch.tensor([[0.4, 0.3, 0.3], [0.5, 0.5, 0]])}
    batch.extra["regions"] = torch.tensor([[[10.0, 0, 9, 9], [70, 0, 9, 9], [5, 0, 9, 9]], [[5, 0, 9, 9], [12, 0, 9, 9], [5, 0, 9, 9]]])
    batch.t, batch.z = torch.tensor([[1, 3, 0], [2, 3, 0]]), torch.randn(2, 3, 4)
    plain = cross_entropy(batch.z, batch.t)
    found = hook.losses(state, torch.tensor([7.0, 8.0]), batch)
    first = 7 + 0.3 * (1 - 0.6 + 0.9 - 1) * plain[0, 1]
    second = 8 + 0.5 * (1 - 0.2 + 0.95 - 1) * plain[1, 0] + 0.5 * (1 - 0.7 + 0.93 - 1) * plain[1, 1]
    assert torch.allclose(found, torch.stack([first, second]), atol=1e-6)


def test_boxes_with_parts_left_out():
    state, hook, batch = boxes_run(5, mining=False, reweight=False, stratified=False)
    assert not state.model.asked
    assert state.per_sample["mined"].tolist() == [[2, 0, 0], [2, 0, 0]]
    assert not {"later", "marvelovd"} & set(batch.extra)
    assert hook.losses(state, losses := torch.ones(2), batch) is losses
    state, _, batch = boxes_run(9, threshold=2.0)
    assert batch.t.tolist() == [[1, 0, 0, 0, 0], [0] * 5]
    assert not batch.extra["later"].any()
    state, _, batch = boxes_run(9, lambda train, batch: train.side.pop("proposals"))
    assert batch.t.tolist() == [[1, 0], [0, 0]]
    assert state.per_sample["mined"].shape == (2, 0)


def test_right_boxes_by_hand():
    """Of those in use one is right, with an IoU of 0.9, one has no object; of two objects that nobody labelled one is found."""
    from runner.components.eval import proposals

    state, *_ = boxes_run(4)
    found = {k: float(v) for k, v in proposals.build().measure(state, state.data.train).items()}
    assert found == {"pseudo_precision": 50, "pseudo_used": 1, "pseudo_recall": 50}


def test_a_detector_with_boxes_trains_and_without_proposals_is_one_of_labels_alone():
    """The off-switch of a real run, bit for bit; with proposals at the objects nobody labelled, its weights differ."""
    from runner import contracts

    def trace(with_it, threshold=0.5):
        tree = contracts.config("learner", "detector", {"regions": 16, "anchors": 16}, duration="4it")
        tree["with"] = {"marvelovd": {"name": "marvelovd", "threshold": threshold, "burn_in": "2it"}} if with_it else {}
        tree["eval"] = {"proposals": {"name": "proposals"}}
        loop, rows = contracts.start(tree), []
        loop.measures.report, train = rows.append, loop.state.data.train
        return loop, rows, train

    def run(with_it, threshold=0.5):
        loop, rows, train = trace(with_it, threshold)
        objects = train.side["objects"]
        train.relabel(torch.where(train.y > 3, 0, train.y))
        train.side["proposals"] = torch.where(objects[..., :1] >= 3, torch.cat([objects, torch.full_like(objects[..., :1], 0.9)], -1), -1.0)
        for hook in loop.on.setup:
            hook(loop.state)
        loop.run()
        return loop.state.weights(), rows[-1]

    off, plain, on = run(True, 2.0), run(False), run(True)
    assert all(torch.equal(value, plain[0][name]) for name, value in off[0].items())
    assert not torch.equal(on[0]["classifier.weight"], plain[0]["classifier.weight"])
    assert (off[1]["train/pseudo_used"], on[1]["train/pseudo_precision"]) == (0, 100)
    assert on[1]["train/pseudo_used"] > 0


def test_all_of_it_goes_on_where_it_was(tmp_path):
    """Proposals of a file, two views, the burn-in and what follows: stopped in the middle, it ends like the straight run."""
    import coco_files

    from runner import contracts

    file = coco_files.propose(coco_files.write(tmp_path), [3, 18], each=6)
    tree = contracts.config("learner", "detector", {"regions": 16, "anchors": 16, "strong": True}, duration="4it")
    tree |= {
        "data": {"name": "coco", "root": str(tmp_path), "size": 64, "workers": 0, "boxes": True},
        "noise": {"name": "pseudo_boxes", "path": str(file), "novel": [1, 2]},
        "with": {"marvelovd": {"name": "marvelovd", "threshold": 0.6, "burn_in": "2it"}},
        "eval": {"proposals": {"name": "proposals"}, "detection": {"name": "detection", "novel": [1, 2], "least": 0.0}},
    }
    straight, more = contracts.trace(tree), []
    loop = contracts.interrupted(lambda: contracts.start(tree, more.append), 3)
    contracts.same(straight, (more, loop.state.weights()))
    assert straight[0][-1]["train/pseudo_used"] > 0
