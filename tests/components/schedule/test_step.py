import pytest

from runner import UserError
from runner.components.schedule.step import build
from runner.config.schema import schema
from runner.core.clock import Clock


def test_shares_and_durations_agree():
    clock = Clock(10, 200)
    shares, durations = build([0.5, 0.75], 0.1)(clock), build(["10ep", "150it"], 0.1)(clock)
    wanted = [1.0] * 100 + [0.1] * 50 + [0.1**2] * 50
    assert [shares(s) for s in range(200)] == [durations(s) for s in range(200)] == wanted


def test_order_does_not_matter_and_the_start_counts():
    factor = build(["9it", "0it", "3it"], 0.5)(Clock(1, 12))
    assert [factor(s) for s in (0, 2, 3, 8, 9)] == [0.5, 0.5, 0.25, 0.25, 0.125]


def test_what_it_takes():
    bind = schema("schedule", "step").bind
    assert bind({"milestones": ["60ep", "80ep"]})["milestones"] == ["60ep", "80ep"]
    assert bind({"milestones": [0.3]})["milestones"] == [0.3]
    for bad in ([1.5], ["60"], ["x"], 3):
        with pytest.raises(UserError, match=r"schedule\.milestones"):
            bind({"milestones": bad})


def test_a_warm_up_is_close_to_detectron2s():
    """detectron2/solver/lr_scheduler.py, _get_warmup_factor_at_iter: from 1/1000 in a straight line to 1, here from 1/1001."""
    clock = Clock(100, 90000)
    factor, plain = build(["60000it", "80000it"], 0.1, "1000it")(clock), build(["60000it", "80000it"], 0.1)(clock)
    theirs = lambda step: min(1.0, 0.001 * (1 - step / 1000) + step / 1000)
    assert [factor(s) for s in range(0, 1000, 111)] == pytest.approx([theirs(s) for s in range(0, 1000, 111)], abs=1e-6)
    assert [factor(s) for s in (1000, 59999, 60000, 80000)] == [plain(s) for s in (1000, 59999, 60000, 80000)] == [1, 1, 0.1, 0.1**2]
    assert build([0.5], 0.1)(clock)(0) == 1.0
