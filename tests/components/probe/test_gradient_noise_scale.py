"""The noise scale on a problem whose gradient mean and covariance are known, and on a network against all its per-sample gradients."""

import pytest
import torch
from small import loop
from torch import nn

from runner.components.probe import gradient_noise_scale as probe
from runner.core.data import Split


class Shift(nn.Module):
    def __init__(self, w):
        super().__init__()
        self.w = nn.Parameter(w)

    def forward(self, x):
        return self.w - x


def gaussian(distance):
    """Loss 0.5 |w - x|^2: the gradient of a sample is w - x, so G = w - mean(x) and Sigma = cov(x) = diag(1, 4, 9)."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(500, 3, generator=g, dtype=torch.double)
    x = x - x.mean(0)
    x = x @ torch.linalg.inv(torch.linalg.cholesky(x.T @ x / 500)).T * torch.tensor([1.0, 2.0, 3.0])
    training = loop(model=Shift(torch.tensor([distance, 0.0, 0.0], dtype=torch.double)))
    training.state.loss = lambda z, y: 0.5 * z.square().sum(-1)
    return training.state, Split(x, torch.zeros(500))


def test_known_mean_and_covariance():
    state, split = gaussian(2.0)
    found = probe.build(small=2, big=64, repeats=100).measure(state, split)
    assert float(found["grad_var"]) == pytest.approx(14.0, rel=0.03)  # 3,200 small batches
    assert float(found["grad_sq"]) == pytest.approx(4.0, rel=0.15)
    assert found["noise_scale"] == pytest.approx(found["grad_var"] / found["grad_sq"])


def test_estimates_do_not_depend_on_the_batch_sizes():
    """The naive |G_big|^2 would be 4 + 14 / 8 = 5.75 and 4 + 14 / 64; the unbiased estimates agree."""
    state, split = gaussian(2.0)
    for small, big, repeats, within in ((1, 8, 250, 0.08), (8, 64, 150, 0.14)):  # 4 standard errors
        found = probe.build(small, big, repeats).measure(state, split)
        assert float(found["grad_sq"]) == pytest.approx(4.0, abs=0.75)
        assert float(found["grad_var"]) == pytest.approx(14.0, rel=within)


def test_a_drowned_gradient_has_an_infinite_noise_scale():
    state, split = gaussian(0.0)
    found = [probe.build(2, 4, 1)]
    values = []
    for step in range(20):
        state.step = step
        values.append(found[0].measure(state, split))
    assert any(v["noise_scale"] == float("inf") and v["grad_sq"] <= 0 for v in values)
    assert all(v["noise_scale"] > 0 for v in values)


def test_a_network_against_all_its_per_sample_gradients():
    training = loop(n=40, duration="8it")
    training.run()
    state, train = training.state, training.state.data.train
    state.model.eval()
    parameters = dict(state.model.named_parameters())

    def of_one(parameters, x, y):
        return nn.functional.cross_entropy(torch.func.functional_call(state.model, parameters, x[None]), y[None])

    rows = torch.func.vmap(torch.func.grad(of_one), (None, 0, 0))({n: p.detach() for n, p in parameters.items()}, train.x, train.y)
    rows = torch.cat([r.flatten(1) for r in rows.values()], 1).double()
    mask = torch.ones(75, dtype=torch.bool)
    for masks in ({}, {"0.weight": torch.zeros(8, 5)}):
        state.masks = masks
        mask[:40] = not masks
        mean = rows[:, mask].mean(0)
        found = probe.build(small=2, big=40, repeats=50).measure(state, train)
        assert float(found["grad_sq"]) == pytest.approx(float(mean @ mean), rel=0.12)
        assert float(found["grad_var"]) == pytest.approx(float((rows[:, mask] - mean).square().sum(1).mean()), rel=0.12)


def test_it_leaves_no_trace():
    state = loop(n=32).state
    state.model.eval()
    weights, streams, stream = state.weights(), state.rng.state_dict(), torch.get_rng_state()
    first = probe.build().measure(state, state.data.train)
    assert all(p.grad is None for p in state.model.parameters())
    assert all(torch.equal(w, weights[n]) for n, w in state.weights().items())
    assert state.rng.state_dict().keys() == streams.keys()
    assert torch.equal(torch.get_rng_state(), stream)
    assert first == probe.build().measure(state, state.data.train)


@pytest.mark.parametrize(("small", "big"), [(8, 8), (8, 4), (3, 8)])
def test_sizes_that_do_not_fit(small, big):
    with pytest.raises(ValueError, match="multiple"):
        probe.build(small, big)
