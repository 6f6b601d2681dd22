"""Several runs, one after another: all are composed and checked before the first starts, one that fails costs itself alone."""

import itertools

from hydra.core.override_parser.types import Override

from runner.config.bind import Config
from runner.core.errors import UserError
from runner.execution.run import Failed, execute


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


def run_all(jobs: list[tuple[list[str], Config]], display) -> list[tuple[list[str], dict | None]]:
    """Run what is not done.

    Returns:
        Of each job the overrides that set it apart, and its summary; None if it failed.
    """
    common = set.intersection(*(set(job) for job, _ in jobs))
    results = []
    for k, (job, config) in enumerate(jobs, 1):
        own = [o for o in job if o not in common]
        display.say(f"[{k}/{len(jobs)}] {' '.join(own)}")
        try:
            _, done = execute(config, display)
            results.append((own, done["summary"]))
        except (Failed, UserError) as error:
            display.say(f"runner: {' '.join(own)}: {error}")
            results.append((own, None))
    return results
