from types import SimpleNamespace

import torch
from torch import nn

from runner.components.learner.supervised import build
from runner.core.data import Batch


def test_losses_of_the_outputs_against_the_targets_not_the_labels():
    model = nn.Linear(3, 2)
    state = SimpleNamespace(model=model, loss=lambda z, t: (z - t).square().sum(-1))
    x, t = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), torch.full((4, 2), 5.0)
    batch = Batch(x, torch.zeros(4, dtype=torch.long), torch.arange(4), t)
    losses = build().compute(state, batch)
    z = x @ model.weight.T + model.bias
    assert torch.allclose(batch.z, z)
    assert torch.allclose(losses, ((z - 5) ** 2).sum(1))
    assert losses.requires_grad
