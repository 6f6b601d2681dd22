"""`runner plan OVERRIDES`: all jobs of a sweep with their states, frozen to a file, and how long the rest will take."""

from runner.cli import arguments
from runner.execution import plan as plans
from runner.execution.forecast import forecast
from runner.report import jobs


def main(argv: list[str]) -> int:
    probing = "--probe" in argv
    asked = arguments.parse([a for a in argv if a != "--probe"])
    plan = plans.reread(asked.plan) if asked.plan else plans.planned(asked.overrides, asked.config_name)
    states = plan.states()
    slots = plan.jobs[0].config.one("launcher").build().capacity(max(job.plain["threads"] for job in plan.jobs))
    jobs.print_plan(plan, states, words(*forecast(plan, states, slots, probing), slots))
    return 0


def words(seconds: float | None, unknown: int, slots: int) -> str:
    if seconds is None:
        return "no run of the store says how long they take; --probe tries a few steps"
    if seconds == 0:
        return "nothing to run"
    return f"about {jobs.span(seconds)} with {slots} at once" + (f", guessing for {unknown} jobs of which nothing is known" if unknown else "")
