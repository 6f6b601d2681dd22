import pytest
import torch

from runner.components.optimizer.adamw import build


def test_first_step_and_decoupled_decay():
    w = torch.nn.Parameter(torch.tensor([5.0, 5.0]))
    w.grad = torch.tensor([0.0, -1e-3])
    build(lr=0.1, weight_decay=0.3)([w]).step()
    assert w.tolist() == pytest.approx([5 * (1 - 0.1 * 0.3), 5 * (1 - 0.1 * 0.3) + 0.1], rel=1e-5)


def test_options_reach_the_optimizer():
    group = build(lr=0.2, beta1=0.5, beta2=0.6, eps=0.7, weight_decay=0.4)([torch.nn.Parameter(torch.zeros(1))]).param_groups[0]
    assert (group["lr"], group["betas"], group["eps"], group["weight_decay"]) == (0.2, (0.5, 0.6), 0.7, 0.4)
