"""Several runs, one after another: all are composed and checked before the first starts, one that fails costs itself alone."""

import itertools
import sys

from hydra.core.override_parser.types import Override

from runner.config.bind import Config
from runner.core.errors import UserError
from runner.execution.run import Failed, execute
from runner.report import display, summary


def expand(overrides: list[Override]) -> list[list[str]]:
    """The product of all sweeps, in Hydra's order: the last one varies fastest."""
    axes = []
    for override in overrides:
        key = override.get_key_element()
        if override.is_sweep_override():
            axes.append([f"{key}={value}" for value in override.sweep_string_iterator()])
        else:
            axes.append([override.input_line])
    return [list(job) for job in itertools.product(*axes)]


def run_all(jobs: list[tuple[list[str], Config]]) -> int:
    """Run what is not done; print a table of all. Returns 1 if one failed."""
    shown = display.make("none" if all(c.settings["display"] == "none" for _, c in jobs) else "plain")
    common = set.intersection(*(set(job) for job, _ in jobs))
    rows, failed = [], False
    for k, (job, config) in enumerate(jobs, 1):
        own = [o for o in job if o not in common]
        shown.say(f"[{k}/{len(jobs)}] {' '.join(own)}")
        try:
            _, done = execute(config, shown)
            rows.append((own, "done", done["summary"]))
        except (Failed, UserError) as error:
            print(f"runner: {' '.join(own)}: {error}", file=sys.stderr)
            rows.append((own, "failed", None))
            failed = True
    summary.print_jobs(rows)
    return int(failed)
