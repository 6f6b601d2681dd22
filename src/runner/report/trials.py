"""What a search found: its best trials, which keys mattered, and the command line of the best one."""

import contextlib
from collections import Counter
from collections.abc import Callable

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from runner.report.summary import number, output

SHOWN = 10  # trials
ENOUGH = 20  # complete trials; with fewer, importances are noise


def print_study(study, trials: list, metric: str, command: Callable[[list[str]], str], console: Console | None = None) -> None:
    """The best trials of a study.

    Args:
        trials: those that have ended.
        command: from the overrides of a trial to the command line that runs it.
    """
    console = console or output()
    complete = [t for t in trials if t.state.name == "COMPLETE"]
    ranked = sorted(complete, key=lambda t: t.value, reverse=study.direction.name == "MAXIMIZE")
    different = list({tuple(t.user_attrs["runs"]): t for t in reversed(ranked)}.values())[::-1]  # points that were asked for twice stand there once
    keys = list(dict.fromkeys(key for t in ranked for key in t.params))
    table = Table(title=f"study {escape(study.study_name)}")
    for heading, side in (("trial", "right"), (metric, "right"), *((key, "left") for key in keys)):
        table.add_column(heading, justify=side)
    table.add_column("run", min_width=12)
    for trial in different[:SHOWN]:
        values = (escape(_brief(trial.params[key])) if key in trial.params else "" for key in keys)
        table.add_row(str(trial.number), number(trial.value), *values, " ".join(trial.user_attrs["runs"]))
    if ranked:
        console.print(table)
    for key, share in importances(study, len(complete)).items():
        console.print(f"{share:6.1%}  {key}", markup=False)
    many = Counter(t.state.name.lower() for t in trials)
    console.print(f"{len(trials)} trials: {', '.join(f'{n} {state}' for state, n in many.items()) or 'none'}", markup=False)
    if ranked:
        console.print(f"best: {command(ranked[0].user_attrs['overrides'])}", markup=False, soft_wrap=True)


def importances(study, complete: int) -> dict[str, float]:
    """Key -> share of the metric's variance that it explains (fANOVA), the largest first, of the keys that all trials have.

    Empty for few trials, or where Optuna cannot tell.
    """
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    if complete <= ENOUGH:
        return {}
    with contextlib.suppress(ImportError, ValueError, RuntimeError):
        return get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    return {}


def _brief(value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
