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


def parse(argv: list[str]) -> argparse.Namespace:
    """`overrides`, Hydra's `config_dir`, `config_name`, `multirun`, and a sweep's own flags. A config folder is known to the registry afterwards.

    Raises:
        UserError: flags that do not exist or do not fit.
    """
    parser = Parser(prog="runner", add_help=False, allow_abbrev=False)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--config-dir", "-cd")
    parser.add_argument("--config-name", "-cn", default="config")
    parser.add_argument("--multirun", "-m", action="store_true")
    sweep = parser.add_argument_group()
    sweep.add_argument("--only", choices=("failed", "missing", "stale"), action="append", default=[])
    sweep.add_argument("--retries", type=int, default=0)
    sweep.add_argument("--fail-fast", action="store_true")
    sweep.add_argument("--timeout", type=duration)
    sweep.add_argument("--plan", type=Path)
    found = parser.parse_intermixed_args(argv)
    if found.config_dir is not None:
        if not Path(found.config_dir).is_dir():
            raise UserError(f"--config-dir {found.config_dir}: there is no such folder")
        add_folder(found.config_dir)
    return found


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
