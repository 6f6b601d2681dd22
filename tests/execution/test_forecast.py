"""How long a plan will take."""

import pytest

from runner.execution.forecast import forecast
from runner.execution.plan import make

SMALL = ["data=blobs", "trainer.duration=3it", "device=cpu"]


@pytest.mark.parametrize(
    ("wrong", "why"), [("optimizer.lr=1e30", "NotFinite: loss is"), ("model.width=900000000000", "RuntimeError: "), ("device=cuda:99", "UserError: ")]
)
def test_a_job_that_fails_is_unknown_and_said_once(tmp_path, capsys, wrong, why):
    plan = make([*SMALL, wrong, "seed=0,1", f"store={tmp_path}"])
    assert forecast(plan, plan.states(), 1, probing=True) == (None, 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"runner: seed=0: {why}")


def test_a_job_that_fails_hides_no_other_of_its_kind(tmp_path):
    plan = make([*SMALL, "optimizer.lr=1e30,0.1", f"store={tmp_path}"])
    seconds, unknown = forecast(plan, plan.states(), 1, probing=True)
    assert seconds > 0
    assert unknown == 0


def test_what_is_done_takes_no_time_unless_it_is_to_run_again(tmp_path):
    for fresh, left in (("false", 0), ("true", 1)):
        plan = make([*SMALL, f"fresh={fresh}", f"store={tmp_path}"])
        assert forecast(plan, dict.fromkeys(plan.states(), "done"), 1)[1] == left
