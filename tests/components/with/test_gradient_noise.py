import importlib
from types import SimpleNamespace

import pytest
import torch
from small import loop, part, trained

module = importlib.import_module("runner.components.with.gradient_noise")
build, CARD = module.build, module.CARD


def draw(step, eta, gamma, n=200_000):
    p = torch.nn.Parameter(torch.zeros(n))
    p.grad = torch.full((n,), 3.0)
    unused = torch.nn.Parameter(torch.zeros(2))
    generator = torch.Generator().manual_seed(0)
    state = SimpleNamespace(step=step, parameters=lambda: [p, unused], rng=lambda name, device: generator, device=torch.device("cpu"))
    build(eta, gamma).grads(state)
    assert unused.grad is None
    return p.grad - 3


@pytest.mark.parametrize(("step", "eta", "gamma", "variance"), [(0, 0.3, 0.55, 0.3), (15, 1.0, 0.5, 0.25), (99, 0.01, 1.0, 1e-4)])
def test_variance_follows_the_schedule(step, eta, gamma, variance):
    noise = draw(step, eta, gamma)
    n = len(noise)
    assert abs(noise.mean()) < 4 * (variance / n) ** 0.5
    assert noise.var().item() == pytest.approx(variance, rel=4 * (2 / n) ** 0.5)
    assert (noise**4).mean().item() == pytest.approx(3 * variance**2, rel=0.05)  # Gaussian


def test_off_is_exact_and_on_differs_by_seed():
    noisy = lambda eta, seed=0: trained(part(build(eta), "with/gradient_noise", rung=CARD.rung), seed=seed)
    assert torch.equal(noisy(0.0), trained())
    assert not torch.equal(noisy(0.01), trained())
    assert torch.equal(noisy(0.01), noisy(0.01))


def test_masked_weights_stay_zero():
    made = loop(part(build(1.0), "with/gradient_noise", rung=CARD.rung))
    made.state.masks["0.weight"] = (torch.rand(8, 5, generator=torch.Generator().manual_seed(0)) < 0.5).float()
    made.run()
    assert not made.state.model[0].weight[made.state.masks["0.weight"] == 0].any()
