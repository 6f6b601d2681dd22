"""`runner diff RUN RUN`: what differs between two runs, and from which step on. Exit status 1 if their results do."""

from runner.cli.runs import place
from runner.core.errors import UserError
from runner.report import diff


def main(argv: list[str]) -> int:
    store, names = place(argv)
    if len(names) != 2:
        raise UserError("diff takes two runs, ids or folders of records, such as: runner diff 0c7a02 b0809e")
    return int(not diff.print_all(*(diff.find(store, name) for name in names)))
