"""region_fpn: logits against torchvision's own Faster R-CNN on the same boxes; what learns and what does not; padding; runs are repeatable."""

import hub_weights
import pytest
import torch
from torch.nn import functional as F
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign

from runner import UserError, contracts
from runner.components._learned import drawn
from runner.components.model.region_fpn import build, level
from runner.core.data import Info

# in no order of size: 300, 40, 512, 100, 150 and 480 pixels, so that all four levels are in use
REGIONS = ((3.0, 5.0, 303.0, 305.0), (100.0, 50.0, 140.0, 90.0), (0.0, 0.0, 512.0, 512.0), (400.0, 380.0, 480.0, 505.0), (17.0, 200.0, 167.0, 350.0),
           (32.0, 0.0, 512.0, 480.0))  # fmt: skip


def info(**changes):
    return Info(**{"task": "detection", "shape": (3, 512, 512), "outputs": 5, "regions": REGIONS, **changes})


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("RUNNER_OFFLINE", "1")
    return tmp_path


def test_logits_are_those_of_torchvisions_faster_rcnn():
    """It pools with `aligned=False`: half a cell of the level further right and down than detectron2, so its boxes are moved back by as much."""
    torch.manual_seed(0)
    ours = build("resnet18", hidden=32)(info(), None).eval()
    backbone, pool = resnet_fpn_backbone(backbone_name="resnet18", weights=None, norm_layer=torch.nn.BatchNorm2d), MultiScaleRoIAlign([*"0123"], 7, 0)
    theirs = FasterRCNN(backbone, box_roi_pool=pool, box_head=TwoMLPHead(256 * 49, 32), box_predictor=FastRCNNPredictor(32, 5)).eval()
    theirs.backbone.load_state_dict(ours.backbone.state_dict())
    heads = theirs.roi_heads
    for a, b in ((heads.box_head.fc6, ours.head[0]), (heads.box_head.fc7, ours.head[2]), (heads.box_predictor.cls_score, ours.classifier)):
        a.load_state_dict(b.state_dict())
    boxes = torch.tensor(REGIONS)
    moved = boxes - torch.tensor([16, 4, 32, 4, 8, 32])[:, None] / 2
    x = torch.randn(2, 3, 512, 512)
    with torch.no_grad():
        z, features = ours(x), theirs.backbone(x)
        pooled = [heads.box_roi_pool(features, [there] * 2, [(512, 512)] * 2) for there in (moved, boxes)]
        wanted, apart = (heads.box_predictor(heads.box_head(p))[0].view(2, len(REGIONS), 5) for p in pooled)
    assert z.shape == (2, len(REGIONS), 5)
    assert torch.allclose(z, wanted, atol=1e-5)
    assert (z - apart).abs().max() > 1e-4  # the half cell is no rounding
    assert (z[:, 0] - z[:, 1]).abs().max() > 1e-3


def test_levels_are_those_of_the_paper():
    """Lin et al. 2017, eq. 1: 224 pixels belong to level 4, half as many to the one below, and levels 2 to 5 are all there are."""
    squares = torch.tensor([[0.0, 0.0, s, s] for s in (8, 111, 112, 223, 224, 447, 448, 1000)])
    assert (level(squares) + 2).tolist() == [2, 2, 3, 3, 4, 4, 5, 5]
    assert level(torch.tensor([[0.0, 0.0, 112.0, 448.0]])).tolist() == [2]  # 224 by its area


def test_images_are_filled_up_to_multiples_of_32():
    torch.manual_seed(0)
    regions = ((0.0, 0.0, 40.0, 40.0), (10.0, 3.0, 30.0, 39.0))
    small = build("resnet18", hidden=8)(info(shape=(3, 40, 50), regions=regions), None).eval()
    whole = build("resnet18", hidden=8)(info(shape=(3, 64, 64), regions=regions), None).eval()
    whole.load_state_dict(small.state_dict())
    x = torch.randn(1, 3, 40, 50)
    with torch.no_grad():
        assert torch.equal(small(x), whole(F.pad(x, (0, 14, 0, 24))))


def test_trained_weights_and_what_stays_as_it_is(home):
    stored = hub_weights.write(home, "resnet18")
    torch.manual_seed(1)
    net = build("resnet18", "IMAGENET1K_V1", hidden=64)(info(), None)
    body = net.backbone.body.state_dict()
    assert {name for name in stored if name not in body and "num_batches" not in name} == {"fc.weight", "fc.bias"}
    assert all(torch.equal(body[name], stored[name]) for name in body)
    learning = {name for name, p in net.named_parameters() if p.requires_grad}
    parts = {name.removeprefix("backbone.").removeprefix("body.").split(".")[0] for name in learning}
    assert parts == {"layer2", "layer3", "layer4", "fpn", "head", "classifier"}
    assert not [name for name in learning if ".bn" in name or "downsample.1" in name]
    assert drawn(net) == [name for name, _ in net.named_parameters() if not name.startswith("backbone.body")]
    before = {name: v.clone() for name, v in net.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], 0.1)
    net.train()(torch.randn(1, 3, 512, 512)).square().sum().backward()
    optimizer.step()
    moved = {name for name, v in net.state_dict().items() if not torch.equal(v, before[name])}
    assert moved == learning
    assert all(v.isfinite().all() for v in net.state_dict().values())


def test_mistakes_are_said(home):
    with pytest.raises(ValueError, match="arch=vgg16 is no ResNet; choose one such as resnet50"):
        build("vgg16")
    with pytest.raises(ValueError, match="did you mean 'resnet50'"):
        build("resnet5O")
    with pytest.raises(ValueError, match="no weights 'IMAGENET' of resnet50"):
        build("resnet50", "IMAGENET")
    with pytest.raises(UserError, match="regions that data name"):
        build("resnet18")(info(regions=()), None)
    with pytest.raises(UserError, match="images of 3 channels, not 1"):
        build("resnet18")(info(shape=(1, 64, 64)), None)
    with pytest.raises(UserError, match=r"looked in .*resnet18-.*RUNNER_OFFLINE.*put https://.*TORCH_HOME") as error:
        build("resnet18", "IMAGENET1K_V1")(info(), None)
    assert "\n" not in str(error.value)


def test_runs_are_repeatable_and_go_on_where_they_were(home):
    """What the contracts ask of models that have defaults, on a run that is small enough."""
    tree = contracts.config("model", "region_fpn", {"arch": "resnet18", "hidden": 8}, duration="4it", batch_size=2, probe_every="4it")
    tree["data"] |= {"train_size": 6, "test_size": 2, "val_size": 0}
    rows, weights = contracts.trace(tree)
    contracts.same((rows, weights), contracts.trace(tree))
    more = []
    loop = contracts.interrupted(lambda: contracts.start(tree, more.append), 2)
    contracts.same((rows, weights), (more, loop.state.weights()))
