"""The runs of a store: what sets them apart, how they ended, filters and order."""

import math
import operator
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import yaml
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from runner.config import recipes
from runner.config.bind import bind
from runner.config.registry import COSMETIC, EXTENDABLE, GROUPS, options
from runner.config.schema import schema
from runner.config.settings import SECTIONS
from runner.core.errors import UserError, nearest
from runner.execution.identity import code_fingerprint
from runner.execution.store import Store
from runner.report.jobs import COLOURS, span
from runner.report.summary import LONGEST, number

SIGNS = {"<=": operator.le, ">=": operator.ge, "!=": operator.ne, "=": operator.eq, "<": operator.lt, ">": operator.gt}
_CONDITION = re.compile(r"([^<>=!]+)(<=|>=|!=|==?|<|>)(.*)")


def nodes(config: dict) -> Iterator[tuple[str, str, str, dict]]:
    """The components of a plain config: group, key (`loss`, `noise.also_name`, `with.mixup`), option, arguments."""
    for group, many in GROUPS.items():
        node = config.get(group) or {}
        parts = {k: v for k, v in node.items() if isinstance(v, dict) and "name" in v} if many or group in EXTENDABLE else {}
        if "name" in node and not many:
            yield group, group, node["name"], {k: v for k, v in node.items() if k != "name" and k not in parts}
        for key, part in parts.items():
            yield group, f"{group}.{key}", part["name"], {k: v for k, v in part.items() if k != "name"}


def flat(config: dict) -> dict[str, object]:
    """A plain config as dotted keys: `{"loss": "gce", "loss.q": 0.7, "with": ["elr"], "with.elr.lam": 3.0, "seed": 0}`."""
    found = {k: v for k, v in config.items() if k not in (*GROUPS, "kernels")}
    found |= {f"kernels.{k}": v for k, v in (config.get("kernels") or {}).items()}
    found |= {group: [] for group, many in GROUPS.items() if many}
    for group, key, option, arguments in nodes(config):
        found[group] = option if key == group else [*_listed(found.get(group, [])), option]
        found |= {f"{key}.{k}": v for k, v in arguments.items()}
    return found


def _listed(value) -> list:
    return value if isinstance(value, list) else [value]


def telling(config: dict) -> set[str]:
    """The keys of a plain config that may change the result and do not stand at their defaults; the choices of options among them."""
    settings = SECTIONS["run"].parameters
    found = {k for k in config if k in settings and not settings[k].cosmetic and config[k] != settings[k].default}
    for group, key, option, arguments in nodes(config):
        if group not in COSMETIC:
            known = schema(group, option).parameters if option in options(group) else {}
            found |= {group, *(f"{key}.{k}" for k, v in arguments.items() if k not in known or known[k].matters(v))}
    return found


@dataclass(frozen=True)
class Run:
    """A record as the list shows it; `age` in seconds since it ended, or since anything was written."""

    id: str
    state: str
    age: float
    seconds: float | None
    plain: dict
    metrics: dict[str, float]

    @cached_property
    def config(self) -> dict[str, object]:
        return flat(self.plain)

    @property
    def own(self) -> dict:
        return {"id": self.id, "state": self.state, "age": self.age, "seconds": self.seconds}

    @cached_property
    def values(self) -> dict:
        """All that it can be filtered and sorted by."""
        return {**self.config, **self.metrics, **self.own}

    def data(self) -> dict:
        """For JSON, which knows no nan and no infinity."""
        known = {k: v if v is None or math.isfinite(v) else None for k, v in self.metrics.items()}
        return {**self.own, "config": self.plain, "metrics": known}


def read(store: Store, stale: bool = False) -> list[Run]:
    """All runs of a store, oldest first.

    Args:
        stale: ask of each whether today's code would compute it; one whose config today's components do not take is stale.
    """
    known: dict[str, str | None] = {}
    return [_read(store, run, _code(store.config(run) or {}, known) if stale else None) for run in store.ids()]


def _read(store: Store, run: str, code: str | None) -> Run:
    done = store.done(run) or {}
    last = {} if done else next(iter(store.rows(run)[-1:]), {})
    metrics = done.get("summary") or {f"{k}_last": v for k, v in last.items() if "/" in k}
    since = done.get("finished") or (store.folder / run).stat().st_mtime
    return Run(run, store.state(run, code), time.time() - since, done.get("seconds"), store.config(run) or {}, metrics)


def _code(plain: dict, known: dict[str, str]) -> str:
    """The fingerprint of today's code for a config; empty, which no code has, where it does not bind."""
    chosen = str([(group, option) for group, _, option, _ in nodes(plain)])
    if chosen not in known:
        try:
            known[chosen] = code_fingerprint(bind(plain))
        except UserError:
            known[chosen] = ""
    return known[chosen]


def select(runs: list[Run], filters: list[str]) -> list[Run]:
    """The runs that meet all filters: `loss=gce`, `with=elr`, `seed<5`, `test/acc_last>90`, or the beginning of an id. Raises UserError."""
    known = {key for run in runs for key in run.values}
    for text in filters:
        if found := _CONDITION.fullmatch(text):
            key, sign, value = found.groups()
            check_key(key, known)
            try:
                value = recipes.parse(value)
            except (yaml.YAMLError, ValueError) as error:  # ValueError: no such date
                raise UserError(f"cannot read '{text}': {value!r} is no value; text with signs wants quotes, such as loss='\"@\"'") from error
            runs = [run for run in runs if _meets(run.values.get(key), sign.replace("==", "="), value)]
        elif runs and not any(run.id.startswith(text) for run in runs):
            raise UserError(f"no run '{text}'; a filter is the beginning of an id, or a condition such as loss=gce, 'seed<5' or 'test/acc_last>90'")
        else:
            runs = [run for run in runs if run.id.startswith(text)]
    return runs


def check_key(key: str, known: set[str]) -> None:
    if known and key not in known:
        raise UserError(f"no run has '{key}'{nearest(key, known)}")


def _meets(value, sign: str, wanted) -> bool:
    if sign in ("=", "!="):
        same = value == wanted or (isinstance(value, list) and wanted in value)
        return same == (sign == "=")
    numbers = all(isinstance(v, int | float) for v in (value, wanted))
    return numbers and SIGNS[sign](value, wanted)


def order(runs: list[Run], key: str) -> list[Run]:
    """Sorted by any value, the smallest first; runs without it, or with nan, come first. Raises UserError."""
    check_key(key, {k for run in runs for k in run.values})

    def place(run: Run) -> tuple:
        value = run.values.get(key)
        return (0, 0, "") if value is None or value != value else (1, value, "") if isinstance(value, int | float) else (2, 0, shown(value))

    return sorted(runs, key=place)


def apart(runs: list[Run]) -> list[str]:
    """The keys in which the runs differ, defaults aside, in the order of the config."""
    if len(runs) < 2:
        return []
    keys = dict.fromkeys(k for run in runs for k in run.config)
    told = set().union(*(telling(run.plain) for run in runs))
    return [k for k in keys if k in told and len({shown(run.config.get(k)) for run in runs}) > 1]


def shown(value) -> str:
    """A value of a config, as on the command line; nothing for one that is not there."""
    if isinstance(value, list | tuple):
        return f"[{','.join(map(shown, value))}]"
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def table(runs: list[Run]) -> Table:
    """The runs: state, age, time taken, the keys that differ, and the last values on the test split."""
    keys = apart(runs)
    metrics = dict.fromkeys(m for run in runs for m in run.metrics if m.startswith("test/") and m.endswith("_last"))
    made = Table(box=None, pad_edge=False)
    for heading, least in (("run", 12), ("state", LONGEST), ("age", 0), ("time", 0)):
        made.add_column(heading, no_wrap=True, min_width=least)  # an id is for copying
    for key in keys:
        made.add_column(key)
    for name in metrics:
        made.add_column(name.removesuffix("_last"), justify="right")
    for run in runs:
        state, taken = Text(run.state, COLOURS[run.state]), "" if run.seconds is None else span(run.seconds)
        values = [escape(shown(run.config.get(k))) for k in keys]
        made.add_row(run.id, state, span(run.age), taken, *values, *(number(run.metrics.get(m)) for m in metrics))
    return made
