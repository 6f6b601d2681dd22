"""torchvision: the network and its trained weights are torchvision's own, whatever the number of channels; a wrong name is answered with the nearest."""

import hub_weights
import pytest
import torch

from runner import UserError
from runner.components._learned import drawn
from runner.components.model.torchvision import build
from runner.core.data import Info


def test_the_same_weights_as_torchvision_makes():
    from torchvision.models import resnet18

    torch.manual_seed(3)
    ours = build("resnet18")(Info("classification", (3, 32, 32), 7), None)
    torch.manual_seed(3)
    theirs = resnet18(num_classes=7)
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True))
    assert ours.training


def test_grey_images_are_shown_as_three_equal_channels():
    model = build("squeezenet1_1")(Info("classification", (1, 32, 32), 4), None).eval()
    x = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(model(x), model.network(torch.cat([x, x, x], 1)))


def test_second_classifiers_are_left_out_and_sizes_are_told():
    assert build("googlenet")(Info("classification", (3, 32, 32), 4), None)(torch.randn(2, 3, 32, 32)).shape == (2, 4)
    with torch.device("meta"):
        assert build("vit_b_32")(Info("classification", (3, 64, 64), 4), None).image_size == 64


def test_mistakes_are_said():
    with pytest.raises(ValueError, match="did you mean 'resnet50'"):
        build("resnet5O")
    with pytest.raises(UserError, match="3 channels"):
        build()(Info("classification", (2, 32, 32), 4), None)
    with pytest.raises(UserError, match=r"alexnet does not take inputs of shape \(3, 8, 8\)"):
        build("alexnet")(Info("classification", (3, 8, 8), 4), None)
    with pytest.raises(UserError, match=r"vit_b_32 does not take inputs of shape \(3, 64, 32\)"):
        build("vit_b_32")(Info("classification", (3, 64, 32), 4), None)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("RUNNER_OFFLINE", "1")
    return tmp_path


@pytest.mark.parametrize(
    ("arch", "layer", "side", "written", "theirs"),
    [
        ("resnet18", "fc", 32, {}, {}),
        ("squeezenet1_1", "classifier.1", 32, {}, {}),
        ("googlenet", "fc", 32, {"init_weights": False}, {"init_weights": False, "transform_input": True}),
        ("inception_v3", "fc", 80, {"init_weights": False}, {"init_weights": False, "transform_input": True}),
    ],
)
def test_trained_weights_and_a_new_last_layer(home, arch, layer, side, written, theirs):
    from torchvision import models

    stored = hub_weights.write(home, arch, **written)
    name = next(w.name for w in models.get_model_weights(arch))
    torch.manual_seed(1)
    ours = build(arch, name)(Info("classification", (3, side, side), 5), None)
    assert ours.training
    assert {k for k, v in ours.state_dict().items() if not torch.equal(v, stored[k])} == {f"{layer}.weight", f"{layer}.bias"}
    assert drawn(ours) == [f"{layer}.weight", f"{layer}.bias"]
    network = models.get_model(arch, weights=None, **theirs)
    network.load_state_dict(stored)
    parent, _, leaf = layer.rpartition(".")
    setattr(network.get_submodule(parent), leaf, ours.get_submodule(layer))
    x = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(ours.eval()(x), network.eval()(x), atol=1e-6)
    assert ours.train()(x).shape == (2, 5)


def test_the_new_layer_hangs_on_the_seed_and_grey_images_go(home):
    hub_weights.write(home, "squeezenet1_1")
    heads = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        model = build("squeezenet1_1", "IMAGENET1K_V1")(Info("classification", (1, 32, 32), 1000), None)  # as many classes as ImageNet has
        heads.append(model.network.classifier[1].weight)
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
    x = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(model.eval()(x), model.network(torch.cat([x, x, x], 1)))


def test_weights_that_are_not_there_are_said(home):
    with pytest.raises(ValueError, match="no weights 'IMAGENET' of resnet50: it has IMAGENET1K_V1, IMAGENET1K_V2"):
        build("resnet50", "IMAGENET")
    make = build("resnet18", "IMAGENET1K_V1")
    with pytest.raises(UserError, match=r"looked in .*resnet18-.*RUNNER_OFFLINE.*put https://.*TORCH_HOME") as error:
        make(Info("classification", (3, 32, 32), 4), None)
    assert "\n" not in str(error.value)
    stored = hub_weights.write(home, "resnet18")
    file = next((home / "hub" / "checkpoints").iterdir())
    torch.save({**stored, "fc.weight": torch.zeros(3, 512)}, file)
    for _ in ("of another size", "damaged"):
        with pytest.raises(UserError, match=r"cannot be used as the weights of torchvision's resnet18: .*; remove it") as error:
            make(Info("classification", (3, 32, 32), 4), None)
        assert "\n" not in str(error.value)
        file.write_bytes(b"no weights")


def test_a_server_that_is_not_there_is_said_at_once(home, monkeypatch):
    from torchvision.models import ResNet18_Weights

    monkeypatch.delenv("RUNNER_OFFLINE")
    monkeypatch.setattr(type(ResNet18_Weights.IMAGENET1K_V1), "url", "http://127.0.0.1:9/resnet18-f37072fd.pth")
    with pytest.raises(UserError, match="no network"):
        build("resnet18", "IMAGENET1K_V1")(Info("classification", (3, 32, 32), 4), None)
