from runner.components.schedule.constant import build
from runner.core.clock import Clock


def test_always_one():
    factor = build()(Clock(10, 100))
    assert {factor(step) for step in range(120)} == {1.0}
