"""feature_penalty: loss and gradient against the formula on features computed apart; which pass counts; more strength, smaller features; errors."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from runner import UserError, contracts
from runner.config import registry
from runner.core.data import Batch

build = registry.load("with", "feature_penalty").build


def setting(**options):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
    hook = build(**options)
    hook.setup(SimpleNamespace(model=model))
    return hook, model, Batch(torch.randn(6, 5), torch.arange(6) % 3, torch.arange(6))


@pytest.mark.parametrize(("module", "features"), [(None, slice(0, 2)), ("1", slice(0, 2)), ("0", slice(0, 1)), ("2", slice(0, 3))])
def test_the_squared_norm_of_the_features_is_added(module, features):
    hook, model, batch = setting(strength=0.3, module=module)
    weights = torch.linspace(0, 2, 6)

    def gradient(loss):
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()), allow_unused=True, materialize_grads=True)])

    expected = 0.3 * (model[features](batch.x) ** 2).sum(1)
    hook.batch(None, batch)
    losses = nn.functional.cross_entropy(model(batch.x), batch.y, reduction="none")
    found = hook.losses(None, losses, batch)
    assert torch.allclose(found - losses, expected, atol=1e-6)
    total = nn.functional.cross_entropy(model(batch.x), batch.y, reduction="none") + 0.3 * (model[features](batch.x) ** 2).sum(1)
    assert torch.allclose(gradient((weights * found).mean()), gradient((weights * total).mean()), atol=1e-6)


def test_the_learners_first_pass_counts():
    hook, model, batch = setting(strength=1.0)
    model(torch.randn(6, 5))  # another's, before the step
    hook.batch(None, batch)
    model.eval()(torch.randn(6, 5))
    with torch.no_grad():
        model.train()(torch.randn(6, 5))
    model(batch.x)
    model(torch.randn(6, 5))  # of another view
    assert torch.allclose(hook.losses(None, torch.zeros(6), batch), (model[:2](batch.x) ** 2).sum(1))
    model(2 * batch.x)  # the gradients of this step are asked for again
    assert torch.allclose(hook.losses(None, torch.zeros(6), batch), (model[:2](2 * batch.x) ** 2).sum(1))


def test_it_needs_features_of_the_batch():
    hook, model, batch = setting()
    hook.batch(None, batch)
    for rows in (0, 5):
        if rows:
            model(batch.x[:rows])
        with pytest.raises(UserError, match="no features of this batch"):
            hook.losses(None, torch.zeros(6), batch)


@pytest.mark.parametrize("module", ["", "pooled", "0.1"])
def test_a_module_that_is_not_there_is_said(module):
    with pytest.raises(UserError, match=rf"with\.feature_penalty\.module={module} is no module of the network; it has 0, 1, 2$"):
        setting(module=module)


def test_features_become_smaller():
    def size(strength):
        loop = contracts.start(contracts.config("with", "feature_penalty", {"strength": strength}))
        loop.run()
        model, x = loop.state.model.eval(), loop.state.data.train.x
        return model[:-1](x).square().sum(1).mean().item()

    assert size(1.0) < 0.5 * size(0.1) < 0.25 * size(0.0)
