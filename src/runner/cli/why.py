"""`runner why KEY [OVERRIDES]`: where a value comes from, what it replaced, and who reads it."""

from rich.console import Console

from runner.cli import arguments
from runner.config.bind import bind
from runner.core.errors import UserError


def main(argv: list[str]) -> int:
    parser = arguments.parser("why", __doc__, sweep=False)
    parser.usage = "runner why KEY [OVERRIDES]"
    asked = arguments.parse(argv, parser)
    from runner.config import compose
    from runner.report.why import steps

    if not asked.overrides or "=" in asked.overrides[0]:
        raise UserError("why takes a key and the overrides of the run, such as: runner why loss.q loss=gce")
    key, *overrides = asked.overrides
    overrides = compose.rewrite(overrides)
    compose.parse(overrides)
    with compose.composer(asked.config_name) as composed:
        config = bind(composed(overrides))
        value, reader, history = steps(key, config, overrides, asked.config_name)
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[bold]{key}[/] = {value!r}")
    for k, (what, where) in enumerate(history):
        console.print(f"  {'so' if k == len(history) - 1 else 'first' if k == 0 else 'then'}: {what}  ({where})", markup=False)
    console.print(f"  read by: {reader}", markup=False)
    return 0
