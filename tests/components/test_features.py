"""What a classifier is given, also where the network was compiled before anybody asked."""

import pytest
import torch
from torch import nn

from runner import UserError
from runner.components._features import classifier, inputs


def test_compiled_networks_show_their_features_too():
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).eval()
    model.compile(backend="eager")
    x = torch.randn(5, 4)
    with torch.no_grad():
        z = model(x)  # code without a hook
        with inputs(classifier(model, "a test")) as seen:
            assert torch.equal(model(x), z)
        assert torch.equal(seen[0], model[:2](x))
        model(x)
    assert len(seen) == 1


def test_a_network_without_a_linear_layer_is_refused():
    with pytest.raises(UserError, match="a test works on what the last linear layer of the model is given; this model has none"):
        classifier(nn.Sequential(nn.Conv2d(1, 1, 1)), "a test")
