import math

import pytest
import torch

from runner.components.loss.apl import build

P = torch.tensor([[0.5, 0.25, 0.25]])  # log p = -(1, 2, 2) log 2


@pytest.mark.parametrize(
    ("active", "gamma", "want"),
    [
        ("nce", 0.5, 1 / 5),
        ("ce", 0.5, math.log(2)),
        ("nfl", 1.0, (0.5 * 1) / (0.5 * 1 + 2 * 0.75 * 2)),
        ("focal", 2.0, 0.25 * math.log(2)),
    ],
)
def test_active_parts_by_hand(active, gamma, want):
    assert build(active, alpha=1.0, beta=0.0, gamma=gamma)(P.log(), torch.tensor([0])).item() == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize(("passive", "want"), [("mae", 0.75), ("rce", 4 * math.log(10) * 0.75)])
def test_passive_parts_by_hand(passive, want):
    assert build(passive=passive, alpha=0.0)(P.log(), torch.tensor([1])).item() == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize("active", ["nce", "nfl"])
def test_normalised_losses_sum_to_one_over_the_classes(active):
    """Ma et al., lemma 1: that is what makes them noise tolerant; the losses they come from do not have it."""
    z = 6 * torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    total = lambda name: sum(build(name, beta=0.0)(z, torch.full((5,), c)) for c in range(7))
    assert torch.allclose(total(active), torch.ones(5), atol=1e-5)
    assert total("ce").std() > 1


def test_weights_and_certain_predictions():
    z = torch.tensor([[80.0, 0.0, 0.0]], requires_grad=True)
    for active in ("nce", "nfl"):
        for y in (0, 1):
            both = build(active, "mae", 2.0, 3.0)(z, torch.tensor([y]))
            parts = build(active, "mae", 2.0, 0.0)(z, torch.tensor([y])) + build(active, "mae", 0.0, 3.0)(z, torch.tensor([y]))
            assert torch.allclose(both, parts)
            (slope,) = torch.autograd.grad(both.sum(), z)
            assert torch.isfinite(slope).all()
