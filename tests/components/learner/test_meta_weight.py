from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from runner import UserError, contracts
from runner.components.learner.meta_weight import meta_gradient
from runner.core.data import Batch


def batch(n, seed, classes=3, inputs=4):
    g = torch.Generator().manual_seed(seed)
    return Batch(torch.randn(n, inputs, generator=g, dtype=torch.double), torch.randint(classes, (n,), generator=g), torch.arange(n))


@pytest.mark.parametrize("masked", [False, True])
def test_meta_gradient_against_finite_differences(masked):
    """The virtual step is written out for a softmax regression: its gradient is x (p - y)^T, so no automatic differentiation is involved."""
    torch.manual_seed(0)
    model, mask = nn.Linear(4, 3).double(), torch.ones(3, 4).double()
    if masked:
        mask[0, 1:] = 0
        model.weight.data *= mask
    weigh = nn.Sequential(nn.Linear(1, 5), nn.Tanh(), nn.Linear(5, 1), nn.Sigmoid()).double()
    train, meta, lr = batch(9, 1), batch(6, 2), 0.7
    state = SimpleNamespace(model=model, masks={"weight": mask} if masked else {}, loss=lambda z, t: F.cross_entropy(z, t, reduction="none"))

    @torch.no_grad()
    def meta_loss():
        p = (train.x @ model.weight.T + model.bias).softmax(1)
        losses = -p[torch.arange(9), train.y].log()
        error = weigh(losses[:, None]) * (p - torch.eye(3, dtype=torch.double)[train.y]) / 9
        weight, bias = model.weight - lr * mask * (error.T @ train.x), model.bias - lr * error.sum(0)
        q = (meta.x @ weight.T + bias).softmax(1)
        return float(-q[torch.arange(6), meta.y].log().mean())

    found = meta_gradient(state, weigh, train, meta, lr)
    for p, g in zip(weigh.parameters(), found, strict=True):
        flat = p.data.view(-1)
        for k in range(len(flat)):
            old, values = flat[k].item(), []
            for change in (1e-5, -1e-5):
                flat[k] = old + change
                values.append(meta_loss())
            flat[k] = old
            assert g.view(-1)[k].item() == pytest.approx((values[0] - values[1]) / 2e-5, abs=1e-8)
    assert max(g.abs().max() for g in found) > 1e-4


def test_virtual_steps_leave_running_statistics_and_weights_alone():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)).double()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    weigh = nn.Sequential(nn.Linear(1, 1), nn.Sigmoid()).double()
    state = SimpleNamespace(model=model, masks={}, loss=lambda z, t: F.cross_entropy(z, t, reduction="none"))
    meta_gradient(state, weigh, batch(9, 1), batch(6, 2), 0.1)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_weights_are_learned_at_a_constant_rate_and_noted():
    tree = contracts.config("learner", "meta_weight", duration="5it") | {"schedule": {"name": "cosine"}}
    tree["data"]["val"] = 0.1
    loop = contracts.start(tree)
    learner = loop.components[0].object
    before = [p.detach().clone() for p in learner.network.parameters()]
    loop.run()
    assert any(not torch.equal(p, q) for p, q in zip(before, learner.network.parameters(), strict=True))
    assert learner.adam.param_groups[0]["lr"] == 1e-3
    assert loop.state.optimizer.param_groups[0]["lr"] < 0.05
    weights = loop.state.per_sample["selected"]
    assert ((weights > 0) & (weights < 1)).sum() == 5 * 64


def test_without_a_validation_split_it_says_how_to_get_one():
    tree = contracts.config("learner", "meta_weight")
    tree["data"]["val"] = 0.0
    with pytest.raises(UserError, match=r"data\.val=0\.1"):
        contracts.start(tree)
