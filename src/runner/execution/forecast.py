"""How long the jobs of a plan will take: from runs of the store that cost the same, else from a short probe."""

import sys
import time
from collections import defaultdict
from statistics import mean

from runner.config import registry
from runner.config.bind import Config
from runner.execution.plan import Job, Plan

FREE = ("noise", "logger", "launcher")  # groups that cost no time in training
PROBE = 2.0  # seconds


def cost(plain: dict) -> str:
    """What a run's time depends on: the chosen options, and the values of data, model and trainer."""
    chosen = {}
    for group, many in registry.GROUPS.items():
        node = plain.get(group) or {}
        if group in ("data", "model", "trainer"):
            chosen[group] = node
        elif group not in FREE:
            chosen[group] = sorted(node) if many else node.get("name")
    return repr(sorted(chosen.items()))


def known(plan: Plan) -> dict[str, float]:
    """Mean seconds of the store's finished runs, by cost."""
    seconds = defaultdict(list)
    for run in plan.store.ids():
        done, plain = plan.store.done(run), plan.store.config(run)
        if done and plain:
            seconds[cost(plain)].append(done["seconds"])
    return {key: mean(found) for key, found in seconds.items()}


def probe(config: Config) -> float:
    """Seconds that a run would take, from a few of its steps."""
    from runner.execution.assemble import assemble

    class Enough(Exception):
        pass

    marks = []

    def after_step(loop):
        marks.append((loop.state.step, time.monotonic()))
        if marks[-1][1] - marks[0][1] > PROBE:
            raise Enough

    start = time.monotonic()
    loop = assemble(config)
    ready = time.monotonic() - start
    try:
        loop.run(after_step)
    except Enough:
        (first, since), (last, now) = marks[0], marks[-1]
        return ready + (now - since) / (last - first) * loop.state.clock.total
    return time.monotonic() - start


def forecast(plan: Plan, states: dict[str, str], slots: int, probing: bool = False) -> tuple[float | None, int]:
    """Seconds until all jobs are done, and of how many jobs that are not done nothing is known (they count like the mean of the others).

    Args:
        slots: jobs at once.
        probing: run a few steps of each kind of job of which nothing is known; where all of a kind fail, why the first did is printed.
    """
    left: list[Job] = [job for job in plan.jobs if job.left(states[job.id]) and states[job.id] != "running"]
    if not left:
        return 0.0, 0
    seconds: dict[str, float | None] = known(plan)
    for job in left:
        kind = cost(job.plain)
        if probing and seconds.get(kind) is None:
            try:
                seconds[kind] = probe(job.config)
            except Exception as error:  # what the job itself would fail with; another of its kind may not
                if kind not in seconds:
                    print(f"runner: {job.name}: {type(error).__name__}: {' '.join(str(error).split())}", file=sys.stderr)
                seconds[kind] = None
    found = [each for job in left if (each := seconds.get(cost(job.plain))) is not None]
    if not found:
        return None, len(left)
    return mean(found) * len(left) / min(slots, len(left)), len(left) - len(found)
