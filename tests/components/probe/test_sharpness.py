"""Sharpness against quadratics of known spectrum and the full Hessian of a tiny network; the probe leaves no trace."""

import pytest
import torch
from small import loop
from torch import nn

from runner.components.probe import sharpness
from runner.components.sparsity import nm
from runner.core.data import Split
from runner.core.events import Component


class Linear(nn.Module):
    def __init__(self, w):
        super().__init__()
        self.w = nn.Parameter(w)

    def forward(self, x):
        return x @ self.w


def quadratic(eigenvalues):
    """0.5 w' H w as a mean over samples, with H = Q diag(eigenvalues) Q': inputs along the axes, the labels are their curvatures."""
    n = len(eigenvalues)
    q = torch.linalg.qr(torch.randn(n, n, generator=torch.Generator().manual_seed(0), dtype=torch.double))[0]
    curvatures = n * torch.tensor(eigenvalues, dtype=torch.double)
    training = loop(model=Linear(torch.arange(1.0, n + 1, dtype=torch.double)))
    training.state.loss = lambda z, y: 0.5 * y * z.square()
    return training.state, Split(q.T.contiguous(), curvatures), q @ torch.diag(torch.tensor(eigenvalues, dtype=torch.double)) @ q.T


@pytest.mark.parametrize("eigenvalues", [[7.0, 3.0, 1.0, 0.5], [3.0, -5.0, 1.0, 0.0], [-1.0, -2.0, -4.0, -8.0]])
def test_the_largest_eigenvalue_of_a_quadratic(eigenvalues):
    state, split, _ = quadratic(eigenvalues)
    assert float(sharpness.build(iterations=200).measure(state, split)["sharpness"]) == pytest.approx(max(eigenvalues), abs=1e-4)


def test_the_rise_within_a_ball_of_a_quadratic():
    """L(w + rho g/|g|) - L(w) = rho |g| + rho^2 g'Hg / (2 |g|^2), with g = Hw."""
    state, split, h = quadratic([7.0, 3.0, 1.0, 0.5])
    g = h @ state.model.w.detach()
    expected = 0.3 * g.norm() + 0.3**2 * (g @ h @ g) / (2 * g @ g)
    assert float(sharpness.build(rho=0.3).measure(state, split)["sam_sharpness"]) == pytest.approx(float(expected))


def full_hessian(training, rows):
    """Of the mean loss in the weights (in the order of the parameters), through torch.func."""
    model, train = training.state.model, training.state.data.train
    named = dict(model.named_parameters())
    sizes = [p.numel() for p in named.values()]

    def value(flat):
        parts = {n: v.view_as(p) for (n, p), v in zip(named.items(), flat.split(sizes), strict=True)}
        return nn.functional.cross_entropy(torch.func.functional_call(model, parts, train.x[rows]), train.y[rows])

    return torch.func.hessian(value)(torch.cat([p.detach().flatten() for p in named.values()]))


@pytest.mark.parametrize("masked", [False, True])
def test_a_tiny_network_against_its_full_hessian(masked):
    training = loop(n=24, duration="10it")
    training.run()
    training.state.model.eval()
    training.state.eval_batch = 10  # products add up over pieces
    hessian, free = full_hessian(training, torch.arange(24)), torch.ones(75, dtype=torch.bool)
    if masked:
        free[:30] = False
        training.state.masks = {"0.weight": torch.ones(8, 5)}
        training.state.masks["0.weight"].view(-1)[:30] = 0
    expected = torch.linalg.eigvalsh(hessian[free][:, free])[-1]
    found = sharpness.build(samples=1000, iterations=300).measure(training.state, training.state.data.train)
    assert float(found["sharpness"]) == pytest.approx(float(expected), rel=1e-3)


def test_pruned_weights_are_no_part_of_the_function():
    """Of N:M layers, whose gradients are straight-through: the Hessian in the weights that are kept."""
    training = loop(Component("sparsity/nm", nm.build(1, 4, lam=0.0), nm.CARD), n=24, duration="10it")
    training.run()
    state, train = training.state, training.state.data.train
    state.model.eval()
    kept = state.model[3].weight.detach() != 0
    dense = loop(n=24, duration="10it")  # the same network, with the pruned weights at zero
    dense.state.model.load_state_dict({name.replace("parametrizations.weight.original", "weight"): w for name, w in state.model.state_dict().items()})
    with torch.no_grad():
        dense.state.model[3].weight.mul_(kept)
    dense.state.model.eval()
    free = torch.cat([(kept if name == "3.weight" else torch.ones_like(p) > 0).flatten() for name, p in dense.state.model.named_parameters()])
    expected = torch.linalg.eigvalsh(full_hessian(dense, torch.arange(24))[free][:, free])[-1]
    assert float(sharpness.build(iterations=300).measure(state, train)["sharpness"]) == pytest.approx(float(expected), rel=1e-3)


def test_fused_attention_has_a_second_derivative_too():
    class Attend(nn.Module):
        def __init__(self):
            super().__init__()
            self.project = nn.Linear(5, 3)

        def forward(self, x):
            q = self.project(x).view(len(x), 1, 3, 1)
            return nn.functional.scaled_dot_product_attention(q, q, q).flatten(1)

    state = loop(model=Attend()).state
    assert float(sharpness.build(iterations=3).measure(state, state.data.train)["sharpness"]) > 0


def test_it_leaves_no_trace():
    training = loop(n=32, duration="5it")
    training.run()
    state = training.state
    state.model.eval()
    state.optimizer.zero_grad()
    state.model[0].weight.grad = torch.full((8, 5), 3.0)
    weights, streams, stream = state.weights(), state.rng.state_dict(), torch.get_rng_state()
    first = sharpness.build().measure(state, state.data.train)
    assert all(torch.equal(w, weights[n]) for n, w in state.weights().items())
    assert torch.equal(state.model[0].weight.grad, torch.full((8, 5), 3.0))
    assert state.model[3].weight.grad is None
    assert state.rng.state_dict().keys() == streams.keys()
    assert torch.equal(torch.get_rng_state(), stream)
    assert not state.model.training
    assert first == sharpness.build().measure(state, state.data.train)  # the same samples each time
