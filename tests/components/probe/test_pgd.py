"""pgd: against the closed form for a linear network, whose worst input within a ball of the maximum norm is known."""

from types import SimpleNamespace

import pytest
import torch

from runner import UserError
from runner.components.probe.pgd import build
from runner.core.data import Split
from runner.core.rng import Streams


def state_of(model, outputs):
    return SimpleNamespace(model=model, info=SimpleNamespace(outputs=outputs), rng=Streams(0), eval_batch=16, device="cpu")


def linear(seed=0, features=6, n=200):
    g = torch.Generator().manual_seed(seed)
    model = torch.nn.Linear(features, 2)
    with torch.no_grad():
        model.weight.copy_(torch.randn(2, features, generator=g))
        model.bias.copy_(0.3 * torch.randn(2, generator=g))
    x = torch.rand(n, features, generator=g)
    y = torch.where(torch.rand(n, generator=g) < 0.1, 1 - model(x).argmax(1), model(x).argmax(1))
    return model, Split(x, y)


@pytest.mark.parametrize("epsilon", [0.0, 0.02, 0.1, 0.4])
def test_the_worst_input_of_a_linear_network(epsilon):
    model, split = linear()
    w, b = model.weight.detach(), model.bias.detach()
    direction = (w[1] - w[0]) * (1 - 2 * split.y[:, None])  # the ascent's, for each sample
    for low, high in ((None, None), (0.0, 1.0)):
        worst = split.x + epsilon * direction.sign()
        worst = worst if low is None else worst.clamp(low, high)
        expected = 100 * ((worst @ w.T + b).argmax(1) == split.y).float().mean()
        probe = build(epsilon=epsilon, step=0.1, steps=20, low=low, high=high)
        assert float(probe.measure(state_of(model, 2), split)["acc_adversarial"]) == pytest.approx(float(expected))
    assert float(build(epsilon=1.0, step=0.1).measure(state_of(model, 2), split)["acc_adversarial"]) < 90


def test_attacks_stay_in_the_ball_and_in_the_range():
    torch.manual_seed(0)
    model, split = linear(1)
    x = build(epsilon=0.2, step=0.5, steps=7).attack(state_of(model, 2), split.x, split.y, torch.Generator().manual_seed(0))
    assert (x - split.x).abs().max() <= 0.2 + 1e-6
    assert 0 <= x.min() <= x.max() <= 1
    assert (x - split.x).abs().max() > 0.1


def test_inputs_out_of_range_are_refused():
    model, split = linear()
    with pytest.raises(UserError, match=r"high are 0\.0 and 0\.5"):
        build(high=0.5).measure(state_of(model, 2), split)


def test_without_room_it_is_the_accuracy_and_samples_are_the_first():
    model, split = linear()
    hit = (model(split.x).argmax(1) == split.y).float()
    assert float(build(epsilon=0.0).measure(state_of(model, 2), split)["acc_adversarial"]) == pytest.approx(100 * float(hit.mean()))
    assert float(build(epsilon=0.0, steps=0, samples=37).measure(state_of(model, 2), split)["acc_adversarial"]) == pytest.approx(100 * float(hit[:37].mean()))
    assert all(p.grad is None for p in model.parameters())
