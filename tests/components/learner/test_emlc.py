"""The meta gradient against finite differences of a step that is written out, and each part of the teacher's lesson by hand."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from runner import UserError, contracts
from runner.components.learner.emlc import meta_term
from runner.core.data import Batch


def batch(n, seed, classes=3, inputs=4):
    g = torch.Generator().manual_seed(seed)
    return Batch(torch.randn(n, inputs, generator=g, dtype=torch.double), torch.randint(classes, (n,), generator=g), torch.arange(n))


@pytest.mark.parametrize("masked", [False, True])
def test_meta_gradient_against_finite_differences(masked):
    """For a softmax regression a step on targets t moves the weights by lr x (t - p)^T / B, those that are not masked."""
    torch.manual_seed(0)
    model, train, clean, lr, mask = nn.Linear(4, 3).double(), batch(5, 1), batch(6, 2), 0.7, torch.ones(3, 4).double()
    if masked:
        mask[0, 1:] = 0
        model.weight.data *= mask
    state = SimpleNamespace(model=model, masks={"weight": mask} if masked else {}, loss=lambda z, t: F.cross_entropy(z, t, reduction="none"))
    targets = torch.rand(5, 3, dtype=torch.double, generator=torch.Generator().manual_seed(3)).softmax(-1).requires_grad_()

    @torch.no_grad()
    def after(t):
        error = ((train.x @ model.weight.T + model.bias).softmax(1) - t) / 5
        weight, bias = model.weight - lr * mask * (error.T @ train.x), model.bias - lr * error.sum(0)
        return float(F.cross_entropy(clean.x @ weight.T + bias, clean.y))

    z = model(train.x)
    meta_term(state, z, state.loss(z, targets.detach()), targets, clean, lr).backward()
    for i in range(5):
        for c in range(3):
            change = torch.zeros(5, 3, dtype=torch.double)
            change[i, c], change[i, (c + 1) % 3] = 1e-5, -1e-5  # targets stay normalised
            slope = (after(targets.detach() + change) - after(targets.detach() - change)) / 2e-5
            assert float(targets.grad[i, c] - targets.grad[i, (c + 1) % 3]) == pytest.approx(slope, abs=1e-8)
    assert targets.grad.abs().max() > 1e-3
    assert all(p.grad is None for p in model.parameters())


def started(**options):
    tree = contracts.config("learner", "emlc", options)
    loop = contracts.start(tree)
    return loop, loop.components[0].object


def test_losses_by_hand_without_the_meta_gradient(monkeypatch):
    loop, learner = started(weight=0.0, batch=20)
    state, train = loop.state, loop.state.data.train
    torch.manual_seed(5)
    with torch.no_grad():
        for p in learner.teacher.parameters():
            p.add_(0.1 * torch.randn_like(p))
    now, rows = train.fetch(torch.arange(9)), torch.arange(20)
    monkeypatch.setattr(torch, "randperm", lambda n, generator: rows)
    found = learner.compute(state, now)
    clean = state.data.val.fetch(rows)
    body = learner.teacher[:-1]
    p, y = learner.teacher(now.x).softmax(1), F.one_hot(now.y, 10)
    keep = learner.gate(body(now.x), now.y)
    assert torch.allclose(state.per_sample["selected"][:9], keep[:, 0])
    targets = (keep * y + (1 - keep) * p).detach()
    student = -(targets * state.model(now.x).log_softmax(1)).sum(1)
    z = learner.teacher(clean.x)
    shown = clean.y.clone()
    for k in range(0, 20, 2):
        order = z[k].argsort(descending=True)
        shown[k] = order[0] if order[0] != clean.y[k] else order[1]
    kept = learner.gate(body(clean.x), shown)[:, 0]
    gate = -torch.stack([(1 - kept[k]).log() if k % 2 == 0 else kept[k].log() for k in range(20)]).mean()
    assert torch.allclose(found, student + F.cross_entropy(z, clean.y) + gate, atol=1e-5)


def test_student_learns_from_targets_and_teacher_from_the_lesson():
    loop, learner = started()
    now = loop.state.data.train.fetch(torch.arange(9))
    learner.compute(loop.state, now).mean().backward()
    student = {n: p.grad.clone() for n, p in loop.state.model.named_parameters()}
    keep = loop.state.per_sample["selected"][:9, None]
    targets = (keep * F.one_hot(now.y, 10) + (1 - keep) * learner.teacher(now.x).softmax(1)).detach()
    loop.state.model.zero_grad()
    F.cross_entropy(loop.state.model(now.x), targets).backward()
    for name, p in loop.state.model.named_parameters():
        assert torch.allclose(p.grad, student[name], atol=1e-6)
    assert all(p.grad is not None for net in (learner.teacher, learner.gate) for p in net.parameters())


def test_without_a_validation_split_it_says_how_to_get_one():
    tree = contracts.config("learner", "emlc")
    tree["data"]["val"] = 0.0
    with pytest.raises(UserError, match=r"data\.val=0\.1"):
        contracts.start(tree)
