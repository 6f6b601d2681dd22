"""vit: patches, tokens and initialisation; its layers are checked with the attention."""

import pytest
import torch

from runner import UserError
from runner.components.model.vit import build
from runner.core.data import Info

softmax = lambda: lambda scores: scores.softmax(-1)
INFO = Info("classification", (3, 8, 8), 5)


def test_weights_of_vit_b_16(weights):
    make = lambda info, _: build(16, 768, 12, 12)(info, softmax)
    assert weights(make, (3, 224, 224), 1000) / 1e6 == pytest.approx(86.6, abs=0.06)  # torchvision's vit_b_16: 86,567,656
    assert weights(make, (3, 224, 224), 1000) == 86567656


@pytest.mark.parametrize("pool", ["token", "mean"])
def test_patches_without_positions_are_a_set(pool):
    torch.manual_seed(0)
    model = build(width=16, depth=2, pool=pool)(INFO, softmax).eval()
    torch.nn.init.normal_(model.head.weight)
    x = torch.randn(2, 3, 8, 8)
    swapped = torch.cat([x[..., 4:], x[..., :4]], -1)
    assert not torch.allclose(model(x), model(swapped), atol=1e-4)
    torch.nn.init.zeros_(model.positions)
    assert torch.allclose(model(x), model(swapped), atol=1e-5)


def test_one_normaliser_a_layer():
    made = []

    def normaliser():
        made.append(1)
        return lambda scores: scores.softmax(-1)

    build(depth=3)(INFO, normaliser)
    assert len(made) == 3


def test_it_starts_at_zero_logits_and_as_the_authors_say():
    model = build(width=64)(INFO, softmax)
    assert not model(torch.randn(2, 3, 8, 8)).any()
    patches = model.patches.weight
    assert patches.std().item() == pytest.approx((1 / 48) ** 0.5, rel=0.05)  # of what is left between two deviations, as LeCun normal has it
    assert patches.abs().max() <= 2 / 0.8796 * (1 / 48) ** 0.5
    qkv = model.layers[0].attention.qkv.weight
    bound = (6 / (64 + 64)) ** 0.5  # Xavier for each of the three projections, not for the three together
    assert qkv.abs().max() <= bound
    assert qkv.std().item() == pytest.approx(bound / 3**0.5, rel=0.03)
    assert model.positions.std().item() == pytest.approx(0.02, rel=0.15)
    assert not model.token.any()


def test_patches_must_divide_the_image():
    with pytest.raises(UserError, match="patch=3"):
        build(patch=3)(INFO, softmax)
