"""The model's own results are what it goes on with: a model that adds is right, unless its first step is wrong."""

from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from runner.components.eval.answers import build
from runner.core.data import Split


def test_errors_carry_on():
    """x = [a, b, c, =, a+b], y = [a+b, a+b+c]; teacher-forced, the last step would be right always."""
    g = torch.Generator().manual_seed(0)
    a, b, c = torch.randint(5, (3, 200), generator=g)
    split = Split(torch.stack([a, b, c, torch.full_like(a, 19), a + b], 1), torch.stack([a + b, a + b + c], 1))
    broken = a == 2

    def predict(x):
        first = x[:, 0] + x[:, 1] + (x[:, 0] == 2).long()
        return F.one_hot(torch.stack([first, x[:, 4] + x[:, 2]], 1), 20).float()

    state = SimpleNamespace(predict=predict, eval_batch=64, device="cpu")
    before = split.x.clone()
    assert build().measure(state, split)["answer"].item() == pytest.approx(100 * (~broken).double().mean().item())
    assert torch.equal(split.x, before)
