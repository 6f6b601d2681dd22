"""Exact factors; those of the decay are the ones of wsd_schedule in epfml/schedules-and-scaling, src/optim/utils.py."""

import math

import pytest

from runner.components.schedule.wsd import build
from runner.core.clock import Clock

CLOCK = Clock(10, 100)


def test_linear():
    factor = build("4it", 0.2, "linear", 0.1)(CLOCK)
    assert [factor(s) for s in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert {factor(s) for s in range(4, 81)} == {1.0}
    assert [factor(s) for s in (85, 90, 99)] == pytest.approx([0.1 + 0.9 * 0.75, 0.1 + 0.9 * 0.5, 0.1 + 0.9 * 0.05])
    assert factor(100) == factor(300) == pytest.approx(0.1)


def test_one_minus_root():
    factor = build(decay=0.16)(CLOCK)
    assert [factor(s) for s in (83, 84, 88, 93, 100)] == pytest.approx([1.0, 1.0, 0.5, 1 - 0.75, 0.0])
    assert all(factor(s) <= build(decay=0.16, shape="linear")(CLOCK)(s) for s in range(100))
    assert factor(85) == pytest.approx(1 - math.sqrt(1 / 16))


def test_a_duration_is_a_share_and_none_is_no_decay():
    by_share, by_time = build("1ep", 0.3)(CLOCK), build("1ep", "3ep")(CLOCK)
    assert [by_share(s) for s in range(101)] == [by_time(s) for s in range(101)]
    for share in (0.29, 0.57, 0.58):  # 0.29 * 100 = 28.999999999999996
        assert build(decay=share)(CLOCK)(99) == build(decay=f"{round(100 * share)}it")(CLOCK)(99)
    assert build(decay=0.0)(CLOCK)(99) == 1.0
    whole = build("2ep", "50ep", "linear")(CLOCK)  # longer than what the warm-up leaves
    assert whole(20) == 1.0
    assert whole(60) == pytest.approx(0.5)
