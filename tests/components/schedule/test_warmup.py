import pytest

from runner.components.schedule.warmup import build
from runner.core.clock import Clock


def test_linear_then_constant():
    factor = build("4it")(Clock(10, 50))
    assert [factor(s) for s in range(7)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 1.0])
    assert factor(49) == 1.0
    assert build("0it")(Clock(10, 50))(0) == 1.0
