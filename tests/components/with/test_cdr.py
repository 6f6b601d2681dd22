"""Which weights follow their gradient, counted and ranked by hand, and that the others only decay."""

import importlib
from types import SimpleNamespace

import torch
from small import loop, part
from torch import nn

build = importlib.import_module("runner.components.with.cdr").build


def test_one_ranking_over_all_kernels_by_hand():
    a, b, bias, idle = (nn.Parameter(torch.tensor(v)) for v in ([[1.0, -2.0], [0.1, 4.0]], [[3.0, 0.5]], [1.0, 1.0], [[1.0]]))
    a.grad, b.grad, bias.grad = torch.tensor([[1.0, 1.0], [9.0, 0.1]]), torch.tensor([[-1.0, 0.2]]), torch.tensor([5.0, 6.0])
    build(rate=0.5).grads(SimpleNamespace(parameters=lambda: [a, bias, b, idle]))
    # |g w|: 1, 2, 0.9, 0.4 and 3, 0.1; half of the six are 3, 2 and 1
    assert torch.equal(a.grad, torch.tensor([[0.5, 0.5], [0.0, 0.0]]))
    assert torch.equal(b.grad, torch.tensor([[-0.5, 0.0]]))
    assert torch.equal(bias.grad, torch.tensor([5.0, 6.0]))
    assert idle.grad is None


def test_the_share_is_kept_and_the_rest_decays():
    """Without momentum, weights that are not critical shrink by lr * weight_decay and do nothing else."""
    counts = []

    def look(state):
        grads = [p.grad for p in state.parameters() if p.dim() > 1]
        counts.append(sum(int((g != 0).sum()) for g in grads))
        before.append([(p.detach().clone(), g == 0) for p, g in zip([p for p in state.parameters() if p.dim() > 1], grads, strict=True)])

    before = []
    watch = part(SimpleNamespace(grads=look), "with/watch", rung={"grads": "noise"})
    made = loop(part(build(rate=0.7), "with/cdr", rung={"grads": "transform"}), watch, weight_decay=0.1, duration="1it")
    made.run()
    kernels = [p for p in made.state.parameters() if p.dim() > 1]
    assert counts == [int(0.3 * sum(p.numel() for p in kernels) + 1e-9)]
    for p, (old, still) in zip(kernels, before[0], strict=True):
        assert torch.allclose(p.detach()[still], old[still] * (1 - 0.1 * 0.1), atol=1e-7)
        assert not torch.allclose(p.detach()[~still], old[~still] * (1 - 0.1 * 0.1), atol=1e-7)
