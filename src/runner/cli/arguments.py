"""Hydra's own flags, as far as they choose what is composed."""

import argparse
from pathlib import Path

from runner.config.registry import add_folder
from runner.core.errors import UserError

# flags that Hydra answers itself
INFORMATION = ("--cfg", "-c", "--info", "-i", "--hydra-help", "--shell-completion", "-sc")


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise UserError(message)


def parse(argv: list[str]) -> argparse.Namespace:
    """`overrides`, `config_dir`, `config_name`, `multirun`. A config folder is known to the registry afterwards. Raises UserError."""
    parser = _Parser(prog="runner", add_help=False, allow_abbrev=False)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--config-dir", "-cd")
    parser.add_argument("--config-name", "-cn", default="config")
    parser.add_argument("--multirun", "-m", action="store_true")
    found = parser.parse_intermixed_args(argv)
    if found.config_dir is not None:
        if not Path(found.config_dir).is_dir():
            raise UserError(f"--config-dir {found.config_dir}: there is no such folder")
        add_folder(found.config_dir)
    return found
