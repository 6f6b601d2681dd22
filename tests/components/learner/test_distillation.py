import functools

import torch

from runner import contracts
from runner.components.learner.distillation import divergence

G = torch.Generator().manual_seed(0)
Z, V = (torch.randn(6, 5, generator=G, dtype=torch.double) for _ in range(2))


def test_divergence_by_its_definition():
    temperature = 3.0
    q, p = ((logits / temperature).exp() for logits in (V, Z))
    q, p = q / q.sum(1, keepdim=True), p / p.sum(1, keepdim=True)
    assert torch.allclose(divergence(Z, V, temperature), 9 * (q * (q / p).log()).sum(1))


def test_high_temperature_matches_logits():
    """Hinton et al., equation 4: for centred logits and large T the gradient is (z - v) / C."""
    z, v = Z - Z.mean(1, keepdim=True), V - V.mean(1, keepdim=True)
    z.requires_grad_()
    divergence(z, v, 1e4).sum().backward()
    assert torch.allclose(z.grad, (z.detach() - v) / 5, atol=1e-3)


def test_student_starts_over_and_the_teacher_stays(monkeypatch):
    config = functools.partial(contracts.config, args={"teacher": "10it"})
    loop = contracts.start(config("learner", "distillation"))
    learner, first = loop.components[0].object, loop.state.weights()
    weights = {}
    loop.run(lambda loop: weights.update({loop.state.step: loop.state.weights()}))
    assert all(torch.equal(learner.start[name], w) for name, w in first.items())
    assert all(torch.equal(learner.teacher[name], w) for name, w in weights[10].items())
    assert any(not torch.equal(weights[11][name], w) for name, w in weights[10].items())
    distance = lambda a, b: sum((a[n] - b[n]).norm() for n in a)
    assert distance(weights[11], first) < distance(weights[11], weights[10])  # one step from the start
    monkeypatch.setattr(contracts, "config", config)
    contracts.resume("learner", "distillation")


def test_alpha_weighs_the_two_terms():
    loop = contracts.start(contracts.config("learner", "distillation", {"alpha": 0.25, "temperature": 2.0}))
    state, learner = loop.state, loop.components[0].object
    batch = state.data.train.fetch(torch.arange(4))
    plain = learner.compute(state, batch)
    z = state.model(batch.x)
    learner.teacher = {name: 2 * w for name, w in state.weights().items()}
    learner.start = state.weights()
    state.load_weights(learner.teacher)
    v = state.model(batch.x)
    state.load_weights(learner.start)
    assert torch.allclose(learner.compute(state, batch), 0.75 * plain + 0.25 * divergence(z, v, 2.0), atol=1e-6)
