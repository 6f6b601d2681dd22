"""`runner OVERRIDES`: compose, check, run, and print the table; with -m several runs."""

import contextlib
import sys

from runner.cli import arguments
from runner.config import recipes, registry
from runner.config.bind import Config, bind
from runner.core.errors import UserError
from runner.execution import WARM


def main(argv: list[str]) -> int:
    if any(a.split("=")[0] in arguments.INFORMATION for a in argv):
        return information(argv)
    asked = arguments.parse(argv)
    if asked.multirun or asked.plan:
        prepare(asked.overrides)
        from runner.cli import sweep

        return sweep.main(asked)
    from runner.config import compose

    if given := [flag for flag in ("only", "retries", "fail_fast", "timeout") if getattr(asked, flag)]:
        raise UserError(f"--{given[0].replace('_', '-')} is for sweeps; add -m")
    overrides = compose.rewrite(asked.overrides)
    with compose.composer(asked.config_name) as composed:
        if sweeps := [o for o in compose.parse(overrides) if compose.is_sweep(o)]:
            line = sweeps[0].input_line
            hint = "" if compose.is_group(sweeps[0]) or "/" not in line else compose.quoted(line)  # a comma in a path
            raise UserError(f"{line!r} asks for several runs; add -m" + (f", or if it is one value, {hint}" if hint else ""))
        config = bind(composed(overrides))
    if (launcher := config.one("launcher").option) != here():
        raise UserError(f"launcher={launcher} is for sweeps; add -m")
    return run_one(config)


def prepare(overrides: list[str]) -> None:
    """Have the launcher import what every job needs while Hydra is imported and composes them."""
    chosen = next((value for key, _, value in (o.partition("=") for o in reversed(overrides)) if key == "launcher"), here())
    with contextlib.suppress(Exception):  # the plan will say what is wrong with it
        registry.load("launcher", chosen).build().prepare(WARM)


def here() -> str:
    """The launcher of the root config, which is this machine: a single run is made in this process."""
    defaults = recipes.parse((recipes.CONF / "config.yaml").read_text())["defaults"]
    return next(entry["launcher"] for entry in defaults if "launcher" in entry)


def run_one(config: Config) -> int:
    from runner.execution.run import Failed, execute
    from runner.report import display, summary

    shown = display.make(config.settings["display"])
    try:
        record, done = execute(config, shown)
    except Failed as error:
        print(f"runner: {error}", file=sys.stderr)
        return 1
    if done and config.settings["display"] != "none":
        summary.print_run(record, done)
    return 0


def refused(message: str) -> None:
    """For Hydra's parser, which would print its usage, many lines."""
    raise UserError(message)


def information(argv: list[str]) -> int:
    """Hydra answers: --cfg, --info, --hydra-help, shell completion."""
    import os

    import hydra
    from hydra._internal.utils import get_args_parser

    from runner.config import compose
    from runner.config.source import COMPLETING, register

    parser = arguments.Parser(add_help=False, allow_abbrev=False)
    arguments.own_folder(parser)
    arguments.add(parser.parse_known_args(argv)[0].config_dir)
    register()
    COMPLETING.set(any(a.split("=")[0] in ("--shell-completion", "-sc") for a in argv))
    os.environ["HYDRA_FULL_ERROR"] = "1"
    sys.argv = ["runner", *compose.rewrite(argv)]
    checked = get_args_parser()
    checked.error = refused
    checked.parse_args(sys.argv[1:])
    compose.parse([a for a in sys.argv[1:] if "=" in a and not a.startswith("-")])
    with compose.at_scale(argv), compose.explained():
        hydra.main(version_base="1.3", config_path=None, config_name="config")(lambda config: None)()
    return 0
