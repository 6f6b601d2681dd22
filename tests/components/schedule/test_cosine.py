import pytest
import torch

from runner.components.schedule.cosine import build
from runner.core.clock import Clock


def test_matches_torch():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 1.0)
    theirs, mine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 40, eta_min=0.1), build(final=0.1)(Clock(4, 40))
    for step in range(40):
        assert mine(step) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-6)
        optimizer.step()
        theirs.step()


def test_warmup_then_half_a_cosine():
    factor = build("2ep", 0.2)(Clock(5, 30))
    assert [factor(s) for s in range(10)] == pytest.approx([(s + 1) / 11 for s in range(10)])
    assert factor(10) == 1.0
    assert factor(20) == pytest.approx(0.6)
    assert factor(30) == factor(99) == pytest.approx(0.2)
