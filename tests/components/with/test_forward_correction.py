import functools
import importlib
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from runner import contracts
from runner.config import registry
from runner.core.data import Batch

forward = registry.load("with", "forward_correction")
estimate = importlib.import_module("runner.components.with._transition").estimate
G = torch.Generator().manual_seed(0)
T = torch.tensor([[0.7, 0.2, 0.1], [0.05, 0.9, 0.05], [0.3, 0.1, 0.6]], dtype=torch.double)
Z = torch.randn(8, 3, generator=G, dtype=torch.double)
Y = torch.randint(3, (8,), generator=G)


def corrected(z, target, matrix=T, phase=1, extra=0.0):
    def ce(z, t):
        return F.cross_entropy(z, t, reduction="none")

    thing = forward.build()
    thing.matrix = matrix.float()
    batch = Batch(z, target, torch.arange(len(z)))
    batch.z = z.float()
    return thing.losses(SimpleNamespace(phase=phase, loss=ce), ce(batch.z, target) + extra, batch)


def test_identity_matrix_and_warmup_are_cross_entropy():
    plain = F.cross_entropy(Z.float(), Y, reduction="none")
    assert torch.allclose(corrected(Z, Y, torch.eye(3)), plain, atol=1e-6)
    assert torch.equal(corrected(Z, Y, phase=0), plain)


def test_loss_is_that_of_the_corrupted_prediction():
    for k, (z, y) in enumerate(zip(Z, Y, strict=True)):
        p = [v.exp() / z.exp().sum() for v in z]
        by_hand = -torch.log(sum(p[c] * T[c, y] for c in range(3)))
        assert corrected(Z, Y)[k].item() == pytest.approx(by_hand.item(), abs=1e-5)


def test_what_the_learner_adds_stays():
    assert torch.allclose(corrected(Z, Y, extra=2.0), corrected(Z, Y) + 2.0, atol=1e-5)


def test_theorem_2_the_clean_posterior_minimises_the_expected_loss():
    clean = torch.tensor([[0.6, 0.3, 0.1]], dtype=torch.double)
    noisy = clean @ T
    z = clean.log().clone().requires_grad_()
    expected = sum(noisy[0, c] * corrected(z, torch.tensor([c]))[0] for c in range(3))
    expected.backward()
    assert z.grad.abs().max() < 1e-6
    z = noisy.log().clone().requires_grad_()  # where plain cross entropy would end
    sum(noisy[0, c] * corrected(z, torch.tensor([c]))[0] for c in range(3)).backward()
    assert z.grad.abs().max() > 0.01


def test_estimate_reads_the_anchors():
    """Noisy posteriors are mixtures of the rows of T; the rows themselves are attained by samples of one class for certain."""
    mixed = torch.rand(500, 3, generator=G, dtype=torch.double).pow(3)
    mixed = (mixed / mixed.sum(1, keepdim=True)) @ T
    assert torch.equal(estimate(torch.cat([mixed, T]), 1.0), T)
    outliers = torch.eye(3, dtype=torch.double)  # samples of which the network is wrongly certain
    anchors = T.repeat(40, 1) + 1e-6 * torch.rand(120, 3, generator=G, dtype=torch.double)
    p = torch.cat([mixed[:100], anchors, outliers])
    assert torch.allclose(estimate(p, 0.97), T, atol=1e-5)
    assert torch.equal(estimate(p, 1.0), outliers)


def test_restart_and_resume_inside_the_second_phase(monkeypatch):
    config = functools.partial(contracts.config, args={"warmup": "10it"})
    loop = contracts.start(config("with", "forward_correction"))
    first, second = loop.state.weights(), {}

    def look(loop):
        if loop.state.step == 10:
            loop.state.phase += 1
            loop.enter_phase()
            loop.state.phase -= 1
            second.update(loop.state.weights())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop.run(look)
    assert all(torch.equal(first[name], second[name]) for name in first)
    hook = next(c.object for c in loop.components if c.name == "with/forward_correction")
    assert torch.allclose(hook.matrix.sum(1), torch.ones(10), atol=1e-5)
    rows = loop.state.per_sample["transition"]
    assert torch.equal(rows[5], hook.matrix[:, loop.state.data.train.y[5]])
    monkeypatch.setattr(contracts, "config", config)
    contracts.resume("with", "forward_correction")
