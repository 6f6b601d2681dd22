"""`runner diff RUN RUN`: what differs between two runs, and from which step on. Exit status 1 if their results do."""

from runner.cli.arguments import Parser
from runner.cli.runs import place
from runner.core.errors import UserError
from runner.report import diff


def main(argv: list[str]) -> int:
    parser = Parser(prog="runner diff", description=__doc__, allow_abbrev=False)
    parser.add_argument("runs", nargs="*", metavar="RUN", help="ids or folders of records; store=DIR names another store")
    store, names = place(parser.parse_args(argv).runs)
    if len(names) != 2:
        raise UserError("diff takes two runs, ids or folders of records, such as: runner diff 0c7a02 b0809e")
    return int(not diff.print_all(*(diff.find(store, name) for name in names)))
