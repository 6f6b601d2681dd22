"""torchvision: the network is torchvision's own, whatever the number of channels; a wrong name is answered with the nearest."""

import pytest
import torch

from runner import UserError
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
