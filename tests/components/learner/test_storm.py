"""The gradient of the rescaler against finite differences of a step that is written out, and what it learns on a run."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from runner import contracts
from runner.components.learner.storm import Storm, features, gradient
from runner.core.data import Batch


def batch(n, seed, classes=3, inputs=4):
    g = torch.Generator().manual_seed(seed)
    return Batch(torch.randn(n, inputs, generator=g, dtype=torch.double), torch.randint(classes, (n,), generator=g), torch.arange(n))


def test_features_by_hand():
    p = torch.tensor([[0.7, 0.2, 0.1]])
    found = features(p.log(), torch.tensor([1]), torch.tensor([5.0]))[0]
    entropy = -sum(v * torch.tensor(v).log() for v in (0.7, 0.2, 0.1))
    assert torch.allclose(found, torch.tensor([5.0, 0.2, 0.7, entropy]), atol=1e-6)
    assert torch.allclose(features(p.log(), torch.tensor([[0.5, 0.5, 0.0]]), torch.tensor([5.0]))[0, 1], torch.tensor(0.45))


def test_weights_are_positive_with_mean_one():
    storm = Storm(8, 0.1, 0.0, 4, "both")
    torch.manual_seed(0)
    storm.network = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    found = storm.weights(torch.randn(7, 3), torch.arange(7) % 3, torch.rand(7))
    assert (found > 0).all()
    assert found.mean().item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("path", ["both", "meta", "direct"])
def test_gradient_against_finite_differences(path):
    """Both ways in which the rescaler matters: through the model's step, which is written out for a softmax regression, and directly."""
    torch.manual_seed(0)
    model, storm = nn.Linear(4, 3).double(), Storm(5, 0.1, 0.0, 6, path)
    storm.network = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1))
    train, other, lr = batch(9, 1), batch(6, 2), 0.7
    state = SimpleNamespace(model=model, masks={}, loss=lambda z, t: F.cross_entropy(z, t, reduction="none"))

    @torch.no_grad()
    def weighted(z, y):
        losses = -z.log_softmax(1)[torch.arange(len(y)), y]
        return storm.network(features(z, y, losses))[:, 0].softmax(0) * len(y), losses

    @torch.no_grad()
    def outer(weights):
        p = (train.x @ model.weight.T + model.bias).softmax(1)
        error = weights[:, None] * (p - torch.eye(3, dtype=torch.double)[train.y]) / 9
        return other.x @ (model.weight - lr * error.T @ train.x).T + model.bias - lr * error.sum(0)

    # the features do not carry gradients: those after the step are held fixed while the rescaler moves
    base = (other.x @ model.weight.T + model.bias).detach()
    if path != "direct":
        base = outer(weighted(train.x @ model.weight.T + model.bias, train.y)[0].double()).detach()
    fixed = features(base, other.y, -base.log_softmax(1)[torch.arange(6), other.y])

    equal = storm.network(fixed)[:, 0].softmax(0).detach()

    @torch.no_grad()
    def held():
        z = outer(weighted(train.x @ model.weight.T + model.bias, train.y)[0].double()) if path != "direct" else other.x @ model.weight.T + model.bias
        weights = equal if path == "meta" else storm.network(fixed)[:, 0].softmax(0)
        return float((weights * -z.log_softmax(1)[torch.arange(6), other.y]).sum())

    found = gradient(state, storm, train, other, lr)
    for p, g in zip(storm.network.parameters(), found, strict=True):
        flat = p.data.view(-1)
        for k in range(len(flat)):
            old, values = flat[k].item(), []
            for change in (1e-2, -1e-2):
                flat[k] = old + change
                values.append(held())
            flat[k] = old
            assert g.view(-1)[k].item() == pytest.approx((values[0] - values[1]) / 2e-2, abs=2e-4)
    assert max(g.abs().max() for g in found) > 1e-3


def test_right_labels_end_up_with_larger_weights():
    tree = contracts.config("learner", "storm", duration="210it") | {"noise": {"name": "symmetric", "rate": 0.4}}
    loop = contracts.start(tree)
    learner = loop.components[0].object
    x = loop.state.data.train.fetch(torch.arange(8))
    z = loop.state.model(x.x)
    assert torch.allclose(learner.weights(z, x.y, loop.state.loss(z, x.y)), torch.ones(8), atol=1e-6)  # equal at first
    loop.run()
    train, weights = loop.state.data.train, loop.state.per_sample["selected"]
    right = train.y == train.clean
    assert weights[right].mean() > 3 * weights[~right].mean()
