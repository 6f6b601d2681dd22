"""Closed forms on a quadratic, where every perturbed gradient is known; masks, batch norm and resuming weights on a small loop."""

import importlib
from types import SimpleNamespace

import pytest
import torch
from small import loop, part, trained, weights
from torch import nn

module = importlib.import_module("runner.components.with.sam")
build, CARD = module.build, module.CARD
A = torch.tensor([[3.0, 1.0], [1.0, 2.0]])


class Quadratic(nn.Module):
    def __init__(self, weight, bias):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.tensor(weight)), nn.Parameter(torch.tensor(bias))


def gradients(sam, model, masks=None):
    """The gradients that SAM hands to the optimizer for w'Aw/2 + 5 b^2/2, and where they were taken."""
    places = []
    state = SimpleNamespace(model=model, parameters=lambda: list(model.parameters()), masks=masks or {})

    def grads():
        places.append(model.weight.detach().clone())
        for p in model.parameters():
            p.grad = None
        loss = 0.5 * model.weight @ A @ model.weight + 2.5 * (model.bias**2).sum()
        loss.backward()
        return loss.detach()

    wrapped, apply = sam.step(state, grads, "apply")
    assert apply == "apply"
    return wrapped(), model.weight.grad, model.bias.grad, places


def test_sam_on_a_quadratic():
    w, b = torch.tensor([1.0, -2.0]), torch.tensor([0.4])
    model = Quadratic(w.tolist(), b.tolist())
    loss, slope, other, _ = gradients(build(rho=0.3), model)
    g = torch.cat([A @ w, 5 * b])
    step = 0.3 * g / g.norm()
    assert loss.item() == pytest.approx((0.5 * w @ A @ w + 2.5 * b @ b).item())
    assert torch.allclose(slope, A @ (w + step[:2]), atol=1e-6)
    assert torch.allclose(other, 5 * (b + step[2:]), atol=1e-6)
    assert torch.equal(model.weight, w)
    assert torch.equal(model.bias, b)


def test_asam_on_a_quadratic():
    """Kwon et al.: w + rho T^2 g / ||T g|| with T = |w| + eta for weights and 1 for biases."""
    w, b = torch.tensor([1.0, -2.0]), torch.tensor([0.4])
    _, slope, other, _ = gradients(build(rho=0.5, adaptive=True, eta=0.1), Quadratic(w.tolist(), b.tolist()))
    g, t = torch.cat([A @ w, 5 * b]), torch.tensor([1.1, 2.1, 1.0])
    step = 0.5 * t * t * g / (t * g).norm()
    assert torch.allclose(slope, A @ (w + step[:2]), atol=1e-5)
    assert torch.allclose(other, 5 * (b + step[2:]), atol=1e-5)


@pytest.mark.parametrize("adaptive", [False, True])
def test_masked_weights_stay_zero_and_do_not_count(adaptive):
    model = Quadratic([1.0, 0.0], [0.0])
    _, _, _, places = gradients(build(0.25, adaptive, eta=0.0 if adaptive else 0.01), model, {"weight": torch.tensor([1.0, 0.0])})
    assert places[1][1] == 0  # although its gradient is 1
    assert places[1][0].item() == pytest.approx(1.25)  # the whole radius is spent on the free weight


def test_radius_zero_is_the_plain_path():
    grads, apply = object(), object()
    assert build(rho=0.0).step(None, grads, apply) == (grads, apply)
    assert torch.equal(trained(part(build(0.0), "with/sam", rung=CARD.rung)), trained())


def test_second_gradient_is_a_replay_and_statistics_are_those_of_the_weights():
    seen = []

    class Watch:
        def grads(self, state):
            seen.append(state.replay)

    def net():
        torch.manual_seed(2)
        return nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Linear(6, 3))

    made = {}
    for rho in (0.0, 0.2):
        made[rho] = loop(part(build(rho), "with/sam", rung=CARD.rung), part(Watch(), rung={"grads": "transform"}), model=net(), duration="1it")
        made[rho].run()
    assert seen == [False, False, True]
    for plain, twice in zip(made[0.0].state.model.buffers(), made[0.2].state.model.buffers(), strict=True):
        assert torch.equal(plain, twice)
    assert not torch.equal(weights(made[0.0]), weights(made[0.2]))
