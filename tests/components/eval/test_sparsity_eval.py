"""Operations against formulas and torch's own counter; zeros by counting."""

from types import SimpleNamespace

import pytest
import torch
from small import loop
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from runner.components.eval import sparsity
from runner.components.sparsity import nm
from runner.core.data import Split
from runner.core.events import Component


def measured(model, shape, masks=None):
    state = SimpleNamespace(model=model.eval(), masks=masks or {})
    with torch.no_grad():
        return {k: float(v) for k, v in sparsity.build().measure(state, Split(torch.randn(2, *shape), torch.zeros(2))).items()}


def test_a_perceptron_by_formula():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    assert measured(model, (64,)) == pytest.approx({"sparsity": 0, "flops": 1, "mflops": 2 * (64 * 32 + 32 * 10) / 1e6})


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, 3, padding=1),
        nn.Conv2d(4, 6, (3, 5), stride=2, bias=False),
        nn.Conv2d(4, 6, 3, groups=2, dilation=2),
        nn.ConvTranspose2d(4, 6, 3, stride=2),
        nn.Sequential(nn.Conv2d(4, 8, 1), nn.ReLU(), nn.Flatten(2), nn.Linear(81, 5)),
    ],
    ids=["padded", "strided", "grouped", "transposed", "tokens"],
)
def test_convolutions_against_torchs_counter(layer):
    with FlopCounterMode(display=False) as counter:
        layer(torch.randn(1, 4, 9, 9))
    assert measured(layer, (4, 9, 9))["mflops"] == pytest.approx(counter.get_total_flops() / 1e6)


def test_a_convolution_by_formula():
    assert measured(nn.Conv2d(4, 6, 3, padding=1), (4, 9, 9))["mflops"] == pytest.approx(2 * 9 * 9 * 6 * 4 * 3 * 3 / 1e6)


def test_masks_weigh_each_layer_by_its_operations():
    """The first layer costs 4 * 6 * 9 * 81 at density 1/4, the second 486 * 10 at density 1/2."""
    model = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.Flatten(), nn.Linear(486, 10))
    masks = {"0.weight": torch.zeros(6, 4, 3, 3), "2.weight": torch.zeros(10, 486)}
    masks["0.weight"][:, 0], masks["2.weight"][:5] = 1, 1
    with torch.no_grad():
        for name, mask in masks.items():
            model.get_parameter(name).mul_(mask)
    found = measured(model, (4, 9, 9), masks)
    assert found["sparsity"] == pytest.approx(100 * (162 + 2430) / (216 + 4860))
    assert found["flops"] == pytest.approx((216 * 81 / 4 + 4860 / 2) / (216 * 81 + 4860))


def test_it_sees_the_weights_that_are_computed_with():
    training = loop(Component("sparsity/nm", nm.build(1, 4), nm.CARD), model=nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)))
    with torch.no_grad():
        found = sparsity.build().measure(training.state, training.state.data.test)
    assert float(found["sparsity"]) == pytest.approx(100 * 18 / 64)  # 5 inputs are not divided by 4: that layer stays dense
    assert found["flops"] == pytest.approx((40 + 6) / 64)
    assert not training.state.model[0]._forward_hooks


def test_nothing_to_prune_nothing_to_say():
    assert measured(nn.Sequential(nn.Flatten(), nn.LayerNorm(4)), (4,)) == {}
