"""faster_rcnn: proposals and detections against torchvision's own; embeddings of classes; what learns; mixed precision; what is missing is said."""

import json

import hub_weights
import pytest
import torch
import torchvision_faster_rcnn as library
from torchvision.ops import box_iou

from runner import UserError
from runner.components._boxes import mirror
from runner.components.model.faster_rcnn import build
from runner.core.data import Info


def info(**changes):
    return Info(**{"task": "boxes", "shape": (3, 128, 160), "outputs": 5, **changes})


def network(**options):
    torch.manual_seed(0)
    net = build("resnet18", **{"hidden": 32, "proposals": 60, **options})(info(), None)
    library.lively(net)
    return net.eval()


def test_detections_and_proposals_are_those_of_torchvisions_faster_rcnn():
    ours = network(least=0.2)
    theirs = library.of(ours, "resnet18", 32, 60, box_score_thresh=0.2).eval()
    x, seen = torch.randn(2, 3, 128, 160), []

    def choose(proposals):
        seen.extend(proposals)
        return torch.stack([p[:20] for p in proposals])

    with torch.no_grad():
        proposals, found, _ = library.run(theirs, x)
        z, chosen = ours(x), ours(x, choose=choose)
        again = ours(x, regions=torch.stack([p[:20] for p in seen]))
    for a, b in zip(seen, proposals, strict=True):
        assert torch.allclose(a, b, atol=1e-3)
    assert z.shape == (2, 100, 6)
    for own, other in zip(z, found, strict=True):
        n = len(other["boxes"])
        assert 5 < n < 100
        assert len(set(other["labels"].tolist())) > 1
        assert torch.allclose(own[:n, :4], other["boxes"], atol=1e-3)
        assert torch.allclose(own[:n, 4], other["scores"], atol=1e-5)
        assert own[:n, 5].tolist() == (other["labels"] - 1).tolist()
        assert not own[n:].any()
    assert all(torch.equal(a, b) for a, b in zip(again, chosen[-2:], strict=True))
    assert chosen.logits.shape == (2, 20, 5)
    assert (chosen.objectness.shape, chosen.shifts.shape) == ((2, len(chosen.anchors)), (2, len(chosen.anchors), 4))
    assert len(chosen.anchors) == 3 * sum(4 * 5 * 4**k for k in range(4)) + 3 * 2 * 3


def test_images_are_filled_up_but_boxes_end_with_them():
    net = network(least=0.0, detections=50)
    with torch.no_grad():
        z = net(torch.randn(1, 3, 70, 50))[0]
    assert (z[:, 4] > 0).all()
    assert z[:, :4].min() >= 0
    assert (z[:, 2].max(), z[:, 3].max()) == (50, 70)


def test_trained_weights_and_what_stays_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("RUNNER_OFFLINE", "1")
    stored = hub_weights.write(tmp_path, "resnet18")
    net = build("resnet18", "IMAGENET1K_V1", hidden=16)(info(), None)
    body = net.backbone.body.state_dict()
    assert all(torch.equal(body[name], stored[name]) for name in body)
    learning = {name.removeprefix("backbone.").removeprefix("body.").split(".")[0] for name, p in net.named_parameters() if p.requires_grad}
    assert learning == {"layer2", "layer3", "layer4", "fpn", "rpn", "head", "classifier", "mover"}
    assert 0.005 < net.classifier.weight.std() < 0.015
    assert 0.0005 < net.mover.weight.std() < 0.0015


def named(names):
    found = info()
    object.__setattr__(found, "categories", names)
    return found


def write(file, **rows):
    file.write_text(json.dumps({"categories": [{"id": k, "name": name, **row} for k, (name, row) in enumerate(rows.items())]}))
    return str(file)


def test_embeddings_of_names_are_the_classifier(tmp_path):
    """By hand: a linear layer, then products with the rows of the file, in the order of the data's classes; nothing there: zeros, as the authors' last row."""
    rows = {"dog": [1.0, 0, 2], "cat": [0.5, -1, 0], "car": [0, 0, 3.0], "cow": [9.0, 9, 9], "bus": [-1.0, 1, 1]}
    path = write(tmp_path / "names.json", **{name: {"embedding" if name == "car" else "text_emb": row} for name, row in rows.items()})
    names = ("car", "bus", "dog", "cat")
    net = build("resnet18", hidden=8, embeddings=path)(named(names), None).eval()
    z, layer = torch.randn(7, 8), net.classifier.layer
    assert (layer.in_features, layer.out_features) == (8, 3)
    wanted = torch.stack([torch.zeros(7), *((z @ layer.weight.T) @ torch.tensor(rows[name], dtype=torch.float32) for name in names)], 1)
    assert torch.allclose(net.classifier(z), wanted, atol=1e-6)
    assert [name for name, _ in net.classifier.named_parameters()] == ["layer.weight", "layer.bias"]
    assert net(torch.randn(1, 3, 64, 64)).shape == (1, 100, 6)
    with pytest.raises(UserError, match=r"names\.json has no embedding of 'pig'"):
        build("resnet18", embeddings=path)(named(("car", "pig")), None)
    with pytest.raises(UserError, match=r"names of the data's classes"):
        build("resnet18", embeddings=path)(info(), None)
    with pytest.raises(UserError, match=r"looked in .*none\.json; set model\.embeddings"):
        build("resnet18", embeddings=str(tmp_path / "none.json"))(named(names), None)
    for damage in ("[]", "{", json.dumps({"categories": [{"name": "dog"}]}), json.dumps({"categories": [{"name": n, "text_emb": "x"} for n in names]})):
        (tmp_path / "bad.json").write_text(damage)
        with pytest.raises(UserError, match=r"bad\.json (is damaged|has no embedding)") as error:
            build("resnet18", embeddings=str(tmp_path / "bad.json"))(named(names), None)
        assert "\n" not in str(error.value)


def test_mixed_precision_leaves_boxes_whole():
    net = network().train()
    x = torch.randn(1, 3, 128, 160)
    with torch.autocast("cpu", torch.bfloat16):
        seen = net(x, choose=lambda proposals: torch.stack([p[:9] for p in proposals]))
        z = net.eval()(x)
    assert {v.dtype for v in (*seen, z)} == {torch.float32}
    assert all(v.isfinite().all() for v in (*seen, z))
    sum(v.square().mean() for v in seen if v.requires_grad).backward()
    assert all(p.grad.isfinite().all() for p in net.parameters() if p.grad is not None)


def test_a_mirror_turns_images_and_boxes_alike():
    x, boxes = torch.zeros(2, 1, 8, 10), torch.tensor([[[1.0, 2, 4, 7], [0, 0, 10, 8]]]).repeat(2, 1, 1)
    x[:, :, 2:7, 1:4] = 1
    turned = mirror(boxes, torch.tensor([False, True]), 10)
    assert turned[0].tolist() == boxes[0].tolist()
    (x0, y0, x1, y1), _ = turned[1].long().tolist()
    assert x[1].flip(-1)[0, y0:y1, x0:x1].all()
    assert x[1].sum() == (x1 - x0) * (y1 - y0)
    assert box_iou(turned[1][1:], boxes[0][1:]) == 1


def test_mistakes_are_said():
    with pytest.raises(ValueError, match="arch=vgg16 is no ResNet"):
        build("vgg16")
    with pytest.raises(UserError, match="model=faster_rcnn takes images of 3 channels, not 1"):
        build("resnet18")(info(shape=(1, 64, 64)), None)
    with pytest.raises(UserError, match="train it with learner=detector"):
        build("resnet18", hidden=8)(info(), None).train()(torch.randn(2, 3, 64, 64))
