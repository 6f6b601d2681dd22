"""`runner plan OVERRIDES`: all jobs of a sweep with their states, frozen to a file, and how long the rest will take."""

from runner.cli import arguments


def main(argv: list[str]) -> int:
    parser = arguments.parser("plan", __doc__, sweep=False)
    arguments.planned(parser)
    parser.add_argument("--probe", action="store_true", help="try a few steps to say how long the rest takes")
    asked = arguments.parse(argv, parser)
    from runner.execution import plan as plans
    from runner.execution.forecast import forecast
    from runner.report import jobs

    plan = plans.reread(asked.plan) if asked.plan else plans.planned(asked.overrides, asked.config_name)
    states = plan.states()
    slots = plan.jobs[0].config.one("launcher").build().capacity(max(job.plain["threads"] for job in plan.jobs))
    jobs.print_plan(plan, states, words(*forecast(plan, states, slots, asked.probe), slots))
    return 0


def words(seconds: float | None, unknown: int, slots: int) -> str:
    from runner.report import jobs

    if seconds is None:
        return "no run of the store says how long they take; --probe tries a few steps"
    if seconds == 0:
        return "nothing to run"
    return f"about {jobs.span(seconds)} with {slots} at once" + (f", guessing for {unknown} jobs of which nothing is known" if unknown else "")
