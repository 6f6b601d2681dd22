"""Hydra's own flags, as far as they choose what is composed."""

import argparse
from pathlib import Path

from runner.config.registry import add_folder
from runner.core.errors import UserError

# flags that Hydra answers itself
INFORMATION = ("--cfg", "-c", "--info", "-i", "--hydra-help", "--shell-completion", "-sc")


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise UserError(message)


def parser(command: str = "", about: str | None = None, sweep: bool = True) -> Parser:
    """The parser of `overrides`, Hydra's `config_dir` and `config_name`, and with `sweep` of a sweep's own flags."""
    found = Parser(prog=f"runner {command}".strip(), description=about, allow_abbrev=False)
    found.add_argument("overrides", nargs="*", metavar="OVERRIDES", help="such as +recipe=noisy_labels loss=gce noise.rate=0.6")
    own_folder(found)
    found.add_argument("--config-name", "-cn", metavar="NAME", default="config", help="the config that overrides are laid over (config)")
    if sweep:
        planned(found)
        found.add_argument("--only", choices=("failed", "missing", "stale"), action="append", default=[], help="run jobs in this state only")
        found.add_argument("--retries", type=natural, metavar="N", default=0, help="try a job that fails again, N times (0)")
        found.add_argument("--fail-fast", action="store_true", help="stop at the first job that fails")
        found.add_argument("--timeout", type=duration, metavar="TIME", help="of one run, such as 90s, 10m or 2h")
    return found


def own_folder(parser: Parser) -> None:
    parser.add_argument("--config-dir", "-cd", metavar="DIR", help="a folder of your own components and recipes")


def add(folder: str | None) -> None:
    """Let the registry know a config folder, if there is one. Raises UserError if it is not there."""
    if folder is not None:
        if not Path(folder).is_dir():
            raise UserError(f"--config-dir {folder}: there is no such folder")
        add_folder(folder)


def planned(parser: Parser) -> None:
    """Add what says which jobs there are."""
    parser.add_argument("--multirun", "-m", action="store_true", help="several runs: a,b or range(5) or glob(*) or zip(a,b)")
    parser.add_argument("--plan", type=Path, metavar="FILE", help="a frozen plan instead of overrides")


def parse(argv: list[str], by: Parser | None = None) -> argparse.Namespace:
    """What `by`, without it `parser()`, makes of the arguments. A config folder is known to the registry afterwards.

    Raises:
        UserError: flags that do not exist or do not fit.
    """
    found = (by or parser()).parse_intermixed_args(argv)
    add(found.config_dir)
    if getattr(found, "plan", None) and found.overrides:
        raise UserError(f"--plan {found.plan} is frozen: it takes no overrides such as {found.overrides[0]!r}")
    return found


def natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of at least 0")
    return int(text)


def duration(text: str) -> float:
    """Seconds of `90`, `90s`, `10m` or `2h`."""
    unit = {"s": 1, "m": 60, "h": 3600}.get(text[-1:])
    try:
        seconds = float(text[:-1]) * unit if unit else float(text)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; it takes 90s, 10m or 2h")
    return seconds
