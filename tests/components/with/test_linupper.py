"""Weights by hand from sorted losses, and what may not change them."""

import importlib
import math
from types import SimpleNamespace

import pytest
import torch

from runner.core.clock import Clock

linupper = importlib.import_module("runner.components.with.linupper")
LOSSES = [3.0, 1.0, 2.0, 5.0]  # h = 0, -1, -1/2, 1


@pytest.mark.parametrize(("shape", "f"), [("linupper", [1, 0, 0.5, 1]), ("quadratic", [1, 0, 0.75, 0]), ("extremes", [0, 1, 0.5, 1])])
@pytest.mark.parametrize("r", [1.0, 0.3])
def test_weights_by_hand(shape, f, r):
    want = [math.exp(v / r) for v in f]
    want = [4 * w / sum(want) for w in want]
    found = linupper.weights(torch.tensor(LOSSES), shape, r)
    assert found.tolist() == pytest.approx(want, rel=1e-5)
    moved = linupper.weights(7 * torch.tensor(LOSSES) + 2, shape, r)  # only the order and the spacing of the losses count
    assert torch.allclose(found, moved, atol=1e-5)


def test_an_outlier_gets_no_more_than_a_middling_loss():
    w = linupper.weights(torch.tensor([0.0, 50.0, 100.0]), "linupper", 0.1)
    assert w[1] == w[2] > w[0]


@pytest.mark.parametrize("losses", [[0.7], [2.0, 2.0, 2.0]])
def test_equal_losses_weigh_alike(losses):
    assert linupper.weights(torch.tensor(losses), "linupper", 1.0).tolist() == pytest.approx([1.0] * len(losses))


def test_gradients_do_not_flow_through_the_weights_and_the_burn_in_has_none():
    hook, state = linupper.build(burn_in="3it"), SimpleNamespace(step=2, clock=Clock(10, 100))
    losses = torch.tensor(LOSSES, requires_grad=True)
    assert hook.losses(state, losses, None) is losses
    state.step = 3
    (slope,) = torch.autograd.grad(hook.losses(state, losses, None).sum(), losses)
    assert torch.equal(slope, linupper.weights(losses.detach(), "linupper", 1.0))
