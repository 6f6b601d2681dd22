"""`runner runs [FILTER...]`: the runs of the store. `runner runs gc`: remove what no frozen plan and no study names."""

import json
import sys

from runner.cli.arguments import Parser
from runner.core.errors import UserError, nearest
from runner.execution.store import STATES, Store, folder
from runner.report import runs
from runner.report.summary import output


def main(argv: list[str]) -> int:
    return gc(argv[1:]) if argv[:1] == ["gc"] else listed(argv)


def listed(argv: list[str]) -> int:
    parser = Parser(prog="runner runs", description=__doc__, allow_abbrev=False)
    parser.add_argument("filters", nargs="*", metavar="FILTER", help="loss=gce, 'seed<5', 'test/acc_last>90', the beginning of an id; or store=DIR")
    parser.add_argument("--state", metavar="STATE", help=f"runs in this state only: {', '.join(STATES)}")
    parser.add_argument("--sort", metavar="KEY", help="by this key or metric, the smallest first; by age without")
    parser.add_argument("--stale", action="store_true", help="compare with today's code: what other code wrote is stale")
    parser.add_argument("--json", action="store_true", help="a JSON list on standard output")
    asked = parser.parse_intermixed_args(argv)
    if asked.state and asked.state not in STATES:
        raise UserError(f"no state '{asked.state}'{nearest(asked.state, STATES)}")
    store, filters = place(asked.filters)
    check_there(store)
    found = runs.select(runs.read(store, asked.stale or asked.state == "stale"), filters)
    found = [run for run in found if asked.state in (None, run.state)]
    if asked.sort:
        found = runs.order(found, asked.sort)
    if asked.json:
        print(json.dumps([run.data() for run in found], indent=1))
        return 0
    console = output()
    if found:
        console.print(runs.table(found))
    console.print(f"{len(found)} run{'s' * (len(found) != 1)} in {store.folder}", markup=False, soft_wrap=True)
    return 0


def gc(argv: list[str]) -> int:
    """Remove from the store what no frozen plan and no study names."""
    from runner.execution import collect

    parser = Parser(prog="runner runs gc", description=gc.__doc__, allow_abbrev=False)
    parser.add_argument("store", nargs="*", metavar="store=DIR", help="another store than RUNNER_STORE")
    parser.add_argument("--yes", action="store_true", help="remove without asking")
    parser.add_argument("--dry-run", action="store_true", help="show what would be removed")
    parser.add_argument("--all", action="store_true", help="also where no plan or study names any run")
    asked = parser.parse_intermixed_args(argv)
    store, rest = place(asked.store)
    check_there(store)
    if rest:
        raise UserError(f"runs gc takes no '{rest[0]}'; it removes what no plan or study of the store names")
    found = collect.garbage(store, asked.all)
    if not found:
        print("nothing to remove")
        return 0
    for item in found:
        print(f"{item.path}  {item.why}  {size(item.bytes)}")
    total = f"{len(found)} thing{'s' * (len(found) != 1)}, {size(sum(item.bytes for item in found))}"
    if asked.dry_run:
        print(f"{total} would be removed")
        return 0
    if not asked.yes and not sys.stdin.isatty():
        raise UserError(f"nothing is removed ({total}): there is no terminal to ask on; add --yes")
    if not asked.yes and not agreed(f"remove {total}? [y/N] "):
        print("nothing is removed")
        return 0
    gone = [item for item in found if collect.remove(store, item)]
    print(f"removed {len(gone)} of {total}")
    return 0


def agreed(question: str) -> bool:
    print(question, end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def place(arguments: list[str]) -> tuple[Store, list[str]]:
    """The store that `store=DIR` names, and the other arguments."""
    asked = [a.partition("=")[2] for a in arguments if a.startswith("store=")]
    return Store(folder(asked[-1] if asked else None)), [a for a in arguments if not a.startswith("store=")]


def check_there(store: Store) -> None:
    if not store.folder.is_dir():
        raise UserError(f"there is no store {store.folder}; store=DIR or RUNNER_STORE names another one")


def size(count: float) -> str:
    """`1536` -> `1.5 KiB`."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
