"""detector: losses against torchvision's own Faster R-CNN; matching and sampling by hand; what hooks find; mirrors; strong views; it learns."""

from types import SimpleNamespace

import pytest
import torch
import torchvision_faster_rcnn as library
from torch import nn

from runner import UserError
from runner.components.data import scenes
from runner.components.data.coco import MEAN, STD
from runner.components.learner._regions import assign, sample
from runner.components.learner._views import strong
from runner.components.learner.detector import build
from runner.components.model import faster_rcnn
from runner.core.data import Batch
from runner.core.rng import Streams
from runner.execution.assemble import assemble
from runner.kernels import cross_entropy

EVERY = {"regions": 10**5, "positive": 1.0, "anchors": 10**6}  # nothing is left out of what is sampled


def setting(n=3, **options):
    """A detector in training whose batch normalisation stays as it is, scenes, and the learner."""
    data = scenes.build(train_size=n, test_size=1, val_size=0, size=128, boxes=True)
    torch.manual_seed(0)
    model = faster_rcnn.build("resnet18", hidden=16, proposals=40)(data.info, None)
    library.lively(model)
    model.train()
    freeze(model)
    state = SimpleNamespace(model=model, data=data, info=data.info, rng=Streams(0), loss=cross_entropy, device="cpu")
    return state, build(**{"flip": 0.0, "beta": 1 / 9, **options})


def freeze(model):
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


def run(state, learner, change=lambda batch: None):
    batch = state.data.train.fetch(torch.arange(len(state.data.train)))
    learner.batch(state, batch)
    change(batch)
    return learner.compute(state, batch), batch


def test_losses_are_those_of_torchvisions_faster_rcnn():
    """With everything sampled, image by image; the last one shows nothing."""
    state, learner = setting(**EVERY)
    theirs = library.of(
        state.model, "resnet18", 16, 40, rpn_batch_size_per_image=10**6, box_batch_size_per_image=10**5, box_positive_fraction=1.0,
    ).train()  # fmt: skip
    freeze(theirs)
    state.data.train.y = state.data.train.y.clone()
    state.data.train.y[2] = 0
    losses, batch = run(state, learner)
    objects = state.data.train.side["objects"]
    for k in range(3):
        there = state.data.train.y[k] > 0
        targets = [{"boxes": objects[k, there, 1:], "labels": state.data.train.y[k, there]}]
        _, _, wanted = library.run(theirs, batch.x[k : k + 1], targets)
        assert all(v > 0 for name, v in wanted.items() if k < 2 or "box_reg" not in name)
        assert losses[k].item() == pytest.approx(sum(v.item() for v in wanted.values()), rel=1e-5)
    losses.sum().backward()
    mine = {name: p.grad.clone() for name, p in state.model.rpn.named_parameters()} | {"mover": state.model.mover.weight.grad.clone()}
    assert all(g.isfinite().all() and g.any() for g in mine.values())


def test_absolute_differences_are_detectron2s():
    """beta = 0, by hand from what hooks find, with the moves of Ren et al. 2015, section 3.1.2."""
    state, learner = setting(**EVERY)
    seen = {}
    state.model.register_forward_hook(lambda module, args, out: seen.update(out=out))
    (absolute, batch), (plain, _) = (run(state, build(flip=0.0, beta=beta, **EVERY)) for beta in (0.0, 1e6))  # squares over 2e6 are nothing
    _, batch = run(state, learner)
    out, wanted = seen["out"], torch.zeros(3)
    objects = state.data.train.side["objects"]
    for k, r in (batch.t > 0).nonzero().tolist():
        box, region = objects[k, batch.extra["given"][k, r], 1:].double(), batch.extra["regions"][k, r].double()
        (bw, bh), (w, h) = (v[2:] - v[:2] for v in (box, region))
        (bx, by), (x, y) = ((v[2:] + v[:2]) / 2 for v in (box, region))
        moves = torch.stack([10 * (bx - x) / w, 10 * (by - y) / h, 5 * (bw / w).log(), 5 * (bh / h).log()])
        wanted[k] += (out.moves[k, r] - moves).abs().sum().item() / (batch.extra["share"][k] > 0).sum()
    anchors = torch.zeros(3)
    from torchvision.models.detection._utils import BoxCoder
    from torchvision.models.detection.rpn import RegionProposalNetwork

    targets = [{"boxes": objects[k, objects[k, :, 0] >= 0, 1:]} for k in range(3)]
    labels, boxes = RegionProposalNetwork.assign_targets_to_anchors(state.model.rpn, [out.anchors] * 3, targets)
    for k in range(3):
        there = labels[k] > 0
        moves = BoxCoder((1.0,) * 4).encode_single(boxes[k][there], out.anchors[there])
        anchors[k] = (out.shifts[k, there] - moves).abs().sum() / (labels[k] >= 0).sum()
    assert (absolute - plain).tolist() == pytest.approx((wanted + anchors).tolist(), rel=1e-3)


def test_regions_are_matched_in_two_strata():
    """By hand: region 1 overlaps the later box more, 3 both of them too little, 4 the later one alone; IoU 0.5 is enough."""
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 16]])
    regions = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 15], [0, 0, 10, 5], [50, 50, 60, 60], [0, 0, 10, 24]])
    none, second = torch.tensor([False, False]), torch.tensor([False, True])
    assert assign(regions, boxes, none).tolist() == [0, 1, 0, -1, 1]
    assert assign(regions, boxes, second).tolist() == [0, 0, 0, -1, 1]
    assert assign(regions, boxes, ~second).tolist() == [1, 1, 0, -1, 1]
    assert assign(regions, boxes, ~none).tolist() == [0, 1, 0, -1, 1]  # all of one stratum
    assert assign(regions, boxes[:0], none[:0]).tolist() == [-1] * 5


def test_a_quarter_of_what_is_sampled_is_positive_at_most():
    labels = torch.cat([torch.full((30,), 2), torch.full((10,), -1), torch.zeros(500)]).long()
    g = torch.Generator().manual_seed(0)
    places = sample(labels, 64, 0.25, g)
    assert len(set(places.tolist())) == 64
    assert [int((labels[places] == v).sum()) for v in (2, 0, -1)] == [16, 48, 0]
    few = sample(labels[25:60], 64, 0.25, g)  # five and twenty are all there are
    assert sorted(few.tolist()) == [*range(5), *range(15, 35)]
    rest = sample(torch.cat([labels[:3], labels[40:]]), 64, 0.25, g)  # room that positive ones leave is filled up
    assert (len(rest), int((rest < 3).sum())) == (64, 3)
    drawn = torch.stack([torch.bincount(sample(labels, 64, 0.25, g), minlength=540) for _ in range(400)]).float().mean(0)
    assert drawn[:30].mean() == pytest.approx(16 / 30, abs=1e-6)
    assert (drawn[:30] - 16 / 30).abs().max() < 0.12  # 4.8 deviations


def test_what_hooks_find():
    state, learner = setting(regions=24, positive=0.25)
    losses, batch = run(state, learner)
    extra, objects = batch.extra, state.data.train.side["objects"]
    assert (batch.z.shape, batch.t.shape, extra["regions"].shape) == ((3, 24, 7), (3, 24), (3, 24, 4))
    assert torch.allclose(extra["share"].sum(1), torch.ones(3))
    from torchvision.ops import box_iou

    for k in range(3):
        assert 0 < (batch.t[k] > 0).sum() <= 6
        for r in range(24):
            iou = box_iou(extra["regions"][k, r : r + 1], objects[k, objects[k, :, 0] >= 0, 1:])[0]
            assert extra["given"][k, r] == (iou.argmax() if iou.max() >= 0.5 else -1)
            assert batch.t[k, r] == (state.data.train.y[k, iou.argmax()] if iou.max() >= 0.5 else 0)
    again, other = run(state, learner)
    assert not torch.equal(again, losses)  # other seeds
    once, twice = learner.compute(state, other), learner.compute(state, other)  # an optimizer that looks twice sees the same
    assert torch.equal(once, again)
    assert torch.equal(once, twice)
    parts = Batch(other.x, other.y, other.i, other.extra["targets"], extra=dict(other.extra)).chunk(3)
    for part in parts:
        del part.extra["targets"]
    assert torch.allclose(torch.cat([learner.compute(state, part) for part in parts]), again, atol=1e-5)


def test_hooks_may_set_targets():
    """Objects that nobody labelled count as nothing; boxes that a hook adds count, later ones where there is room."""
    state, learner = setting(**EVERY)
    state.data.train.y = torch.zeros_like(state.data.train.y)
    more = torch.tensor([[20.0, 20, 80, 80], [20, 20, 80, 90]]).expand(3, 2, 4)

    def change(batch):
        batch.t = torch.cat([batch.y, torch.tensor([[3, 5]]).expand(3, 2)], 1)
        batch.extra["boxes"] = torch.cat([batch.extra["boxes"], more], 1)
        batch.extra["later"] = torch.cat([torch.zeros_like(batch.y, dtype=torch.bool), torch.tensor([[True, False]]).expand(3, 2)], 1)

    _, batch = run(state, learner, change)
    m = batch.y.shape[1]
    assert set(batch.t.unique().tolist()) <= {0, 3, 5}
    same = (batch.extra["regions"] == more[0, 0]).all(-1)  # the first added box among the regions: the second one is not later
    assert same.any()
    assert (batch.t[same] == 5).all()
    assert (batch.extra["given"][same] == m + 1).all()


def test_a_mirrored_image_has_mirrored_boxes():
    state, learner = setting(n=2, **EVERY)
    straight, _ = run(state, learner)
    mirrored = scenes.build(train_size=2, test_size=1, val_size=0, size=128, boxes=True)
    mirrored.train.x = mirrored.train.x.flip(-1)
    there = mirrored.train.side["objects"][..., 0] >= 0
    x0, x1 = mirrored.train.side["objects"][..., 1].clone(), mirrored.train.side["objects"][..., 3].clone()
    mirrored.train.side["objects"][..., 1], mirrored.train.side["objects"][..., 3] = torch.where(there, 128 - x1, -1), torch.where(there, 128 - x0, -1)
    state.data = mirrored
    turned, batch = run(state, build(flip=1.0, beta=1 / 9, **EVERY))
    assert batch.extra["turned"].all()
    assert torch.allclose(turned, straight, rtol=1e-5)
    _, batch = run(state, build(flip=0.5))
    assert torch.equal(batch.x, torch.where(batch.extra["turned"].view(-1, 1, 1, 1), state.data.train.x.flip(-1), state.data.train.x))


def test_strong_views_are_trained_on_too():
    state, learner = setting(strong=True, regions=16)
    with pytest.raises(UserError, match=r"learner\.strong is for photographs .* as data=coco"):
        run(state, learner)
    state.info = SimpleNamespace(**vars(state.info), mean=(0.5,) * 3, std=(0.25,) * 3)
    losses, batch = run(state, learner)
    assert (losses.shape, batch.z.shape, batch.extra["regions"].shape) == ((3,), (3, 32, 7), (3, 32, 4))
    assert torch.allclose(batch.extra["share"].sum(1), torch.ones(3))
    kept = {k: batch.extra[k] for k in ("seed", "boxes", "turned")}
    weak = Batch(batch.x, batch.y, batch.i, extra=dict(kept))
    alone = learner.compute(state, weak)
    assert torch.equal(batch.extra["regions"][:, :16], weak.extra["regions"])
    assert torch.allclose(batch.z[:, :16], weak.z, atol=1e-4)
    assert not torch.allclose(alone, losses)
    everything = build(flip=0.0, beta=1 / 9, **EVERY)  # then a view that is the same adds nothing to the mean
    once, twice = (Batch(batch.x, batch.y, batch.i, extra={**kept, **more}) for more in ({}, {"strong": batch.x}))
    assert torch.allclose(everything.compute(state, twice), everything.compute(state, once), rtol=1e-4)


def test_strong_views_of_grey_photographs():
    """Bytes stay bytes; places that no patch covers and no colour changes are as they were; torch's own stream too."""
    x = (torch.full((40, 3, 32, 32), 0.5) - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    before = torch.get_rng_state()
    seen = strong(x, MEAN, STD, 7)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(seen, strong(x, MEAN, STD, 7))
    assert not torch.equal(seen, strong(x, MEAN, STD, 8))
    values = 255 * (seen * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1))
    assert torch.allclose(values, values.round(), atol=1e-3)
    assert -0.01 < values.min() < 20  # of patches, over all bytes
    assert 235 < values.max() < 255.01
    patched = (values - values.flatten(2).median(-1)[0][..., None, None]).abs().amax(1) > 2
    assert 0.8 < (patched.flatten(1).float().mean(1) > 0.01).float().mean() < 0.97  # 1 - 0.3 * 0.5 * 0.7 = 0.895
    plain = values[~patched.flatten(1).any(1)]
    assert plain.flatten(1).std(1).max() < 1


def test_it_learns_where_objects_are():
    tree = {
        "data": {"name": "scenes", "size": 64, "train_size": 4, "test_size": 1, "val_size": 0, "boxes": True, "most": 2, "noise": 0.1},
        "model": {"name": "faster_rcnn", "arch": "resnet18", "hidden": 64, "proposals": 50}, "loss": "ce", "schedule": "constant", "sparsity": "none",
        "learner": {"name": "detector", "regions": 32, "anchors": 64}, "optimizer": {"name": "sgd", "lr": 0.01}, "softmax": "softmax", "noise": "none",
        "eval": {"detection": {"name": "detection", "splits": ["train"]}}, "device": "cpu",
        "trainer": {"name": "standard", "duration": "24it", "batch_size": 4, "eval_every": "8it", "log_every": "1it"},
    }  # fmt: skip
    rows = []
    summary = assemble(tree, rows.append).run()
    losses = [row["train/loss"] for row in rows]
    assert sum(losses[-3:]) / 3 < 0.5 * losses[0]
    assert next(row["train/ap50"] for row in rows if "train/ap50" in row) < 40
    assert summary["train/ap50_last"] > 60
