from types import SimpleNamespace

import pytest
import torch

from runner.components.eval.transition import build

CLEAN = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
NOISY = torch.tensor([0, 0, 0, 1, 1, 1, 0, 0])  # T = [[3/4, 1/4], [1/2, 1/2]]


def error(matrix):
    rows = torch.tensor(matrix).T[NOISY]
    state = SimpleNamespace(info=SimpleNamespace(outputs=2), per_sample={"transition": rows})
    return float(build().measure(state, SimpleNamespace(y=NOISY, clean=CLEAN))["transition_error"])


def test_mean_absolute_error_over_the_entries():
    assert error([[0.75, 0.25], [0.5, 0.5]]) == pytest.approx(0, abs=1e-7)
    assert error([[1.0, 0.0], [0.0, 1.0]]) == pytest.approx((0.25 + 0.25 + 0.5 + 0.5) / 4)


def test_nothing_to_measure():
    state = SimpleNamespace(info=SimpleNamespace(outputs=2), per_sample={})
    assert build().measure(state, SimpleNamespace(y=NOISY, clean=CLEAN)) == {}
