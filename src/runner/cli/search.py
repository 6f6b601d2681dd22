"""`runner search OVERRIDES`: look for good values of a space, with Optuna; the same command goes on."""

import argparse
import re
import shlex
from pathlib import Path

from runner.cli import arguments
from runner.core.errors import UserError

ALSO = "Jobs at once: launcher.slots=N. As in a sweep: --config-dir, --config-name, --retries, and --timeout, which is for one run."


def main(argv: list[str]) -> int:
    asked = parse(argv)
    try:
        from runner.execution import search
    except ModuleNotFoundError as error:
        raise UserError(f"'runner search' needs {error.name}: pip install 'runner-lab[search]'") from error
    from runner.config import compose, space
    from runner.execution import plan as plans
    from runner.report import jobs, trials

    with compose.composer(asked.config_name) as composed:
        searched = space.of(asked.overrides, asked.space)
        plan = plans.of((overrides, composed(overrides)) for overrides in searched.corners())
        if asked.seeds > 1 and any(o.partition("=")[0] == "seed" for o in (*searched.fixed, *(f"{key}=" for key in searched.axes))):
            raise UserError("--seeds sets the seed of every run; give one of both")
        config = plan.jobs[0].config
        if config.settings["fresh"]:
            raise UserError("fresh=true is for runs: a search takes what is done as it is; store=FOLDER begins in another store")
        question = search.Question(searched, plan.asked, asked.metric, asked.direction or direction(asked.metric, config), asked.seeds)
        name, kind = asked.study or question.key, config.settings["display"]
        with search.opened(question, plan.store, name, asked.sampler, asked.pruner, asked.sampler_seed) as study:
            searching = search.Search(study, question, composed, plan.store, asked.trials, jobs.make(kind, asked.trials))
            ended = searching.run(config.one("launcher").build(), asked.retries, asked.timeout)
            found = search.finished(study)
            if kind != "none":
                trials.print_study(study, found, question.metric, command(asked))
    if not ended:
        return 130
    return int(all(trial.state.name == "FAIL" for trial in found))


def parse(argv: list[str]) -> argparse.Namespace:
    """Raises UserError."""
    parser = arguments.Parser(prog="runner search", usage="runner search OVERRIDES [flags]", description=__doc__, allow_abbrev=False, epilog=ALSO)
    parser.add_argument("--space", type=Path, metavar="FILE", help="YAML with what is searched, beside what the recipe and the overrides say")
    parser.add_argument("--trials", type=count, default=50, help="how many in all (50); those that failed or were pruned count")
    parser.add_argument("--metric", default="test/acc_best", help="of a run, such as test/acc_last10 (test/acc_best)")
    parser.add_argument("--direction", choices=("maximize", "minimize"), help="what the evaluator says without")
    parser.add_argument("--study", type=name, metavar="NAME", help="a name of its own; without, the same search has the same one")
    parser.add_argument("--seeds", type=seeds, default=1, help="runs a trial, 3 or 0-2 (1); their mean counts")
    parser.add_argument("--sampler", choices=("tpe", "random"), default="tpe")
    parser.add_argument("--sampler-seed", type=arguments.natural, default=0)
    parser.add_argument("--pruner", choices=("median", "none"), default="median", help="what stops trials that fall behind (median)")
    own, rest = parser.parse_known_args(argv)
    common = arguments.parse(rest)
    if common.multirun or common.only or common.fail_fast or common.plan:
        raise UserError("a search takes none of -m, --only, --fail-fast and --plan")
    return argparse.Namespace(**{**vars(common), **vars(own)})


def count(text: str) -> int:
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of at least 1")
    return int(text)


def seeds(text: str) -> int:
    """How many: `3`, or `0-2` as other commands have it."""
    last = re.fullmatch(r"0-(\d+)", text)
    return int(last[1]) + 1 if last else count(text)


def name(text: str) -> str:
    if not re.fullmatch(r"\w[\w.-]*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no name; it takes letters, digits, '_', '-' and '.'")
    return text


def direction(metric: str, config) -> str:
    """What the evaluator says that measures the metric. Raises UserError if none does."""
    from runner.report.table import direction

    better = direction(metric, config)
    if better is None:
        raise UserError(f"no evaluator says whether much or little of '{metric}' is good; say --direction maximize or minimize")
    return f"{better}imize"


def command(asked: argparse.Namespace):
    """From a trial's overrides to the command line that runs it."""
    flags = ["--config-dir", asked.config_dir] if asked.config_dir else []
    flags += ["--config-name", asked.config_name] if asked.config_name != "config" else []
    several, seeds = (["-m"], [f"seed=range({asked.seeds})"]) if asked.seeds > 1 else ([], [])
    return lambda overrides: shlex.join(["runner", *several, *flags, *overrides, *seeds])
