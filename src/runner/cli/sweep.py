"""`runner -m OVERRIDES`: plan all jobs, run those that are not done, and print the table."""

import sys

from runner.config.bind import Config
from runner.core.errors import UserError
from runner.execution import WARM
from runner.execution import plan as plans
from runner.execution.plan import Plan
from runner.execution.pool import Pool, needs
from runner.report import jobs, summary


def main(asked) -> int:
    plan = plans.reread(asked.plan) if asked.plan else plans.planned(asked.overrides, asked.config_name, expect)
    states = run(plan, asked.only, asked.retries, asked.fail_fast, asked.timeout)
    if shown(plan) != "none":
        summary.print_jobs([(list(job.own), states[job.id], plan.store.done(job.id)) for job in plan.jobs])
        print(jobs.counts(states))
    return 130 if "stopped" in states.values() else int(any(state != "done" for state in states.values()))


def expect(config: Config) -> None:
    """Have the launcher import what jobs need while the plan is made: the first one's config says what that is."""
    launcher = config.one("launcher").build()
    launcher.prepare(WARM)
    launcher.expect(*needs([config]))


def run(plan: Plan, only=(), retries: int = 0, fail_fast: bool = False, timeout: float | None = None, display=None) -> dict[str, str]:
    """Run what is not done of a plan on the launcher that it names.

    Returns:
        Run id -> its state in the end.
    """
    if plan.file is None or plan.file.parent != plan.store.folder / "plans":  # what it names is kept by `runner runs gc`
        plan = plans.freeze(plan, plan.store.folder / "plans" / f"{plans.name(plan)}.jsonl", sys.argv[1:])
    launchers = {(job.plain["launcher"]["name"], str(job.plain["launcher"])): job for job in plan.jobs}
    if len(launchers) != 1:
        raise UserError(f"one sweep has one launcher, not {' and '.join(name for name, _ in launchers) or 'none'}")
    launcher = next(iter(launchers.values())).config.one("launcher").build()
    return Pool(plan, launcher, display or jobs.make(shown(plan), len(plan.jobs)), retries, fail_fast, tuple(only), timeout).run()


def shown(plan: Plan) -> str:
    kinds = {job.plain["display"] for job in plan.jobs}
    return kinds.pop() if len(kinds) == 1 else "auto"
