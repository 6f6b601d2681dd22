"""From one command line to many: Hydra's sweeps as a product, `zip(...)` for keys that go together, keys that exist under some options only."""

import itertools

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser, create_functions
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override

from runner.config import recipes, registry
from runner.config.compose import explained, rewrite
from runner.config.schema import schema
from runner.core.errors import UserError


class Zip(ChoiceSweep):
    """Values that advance together with those of the other keys that are swept by `zip` of the same name."""

    by: str = ""


def _zip(*values, by: str = ""):
    if not values:
        raise ValueError("zip() needs values")
    found = Zip(list=list(values))
    found.by = by
    return found


def parse(overrides: list[str]) -> list[Override]:
    """Overrides in Hydra's grammar and `zip`. Needs Hydra to be initialised. Raises UserError."""
    functions = create_functions()
    functions.register(name="zip", func=_zip)
    with explained():
        return OverridesParser(functions, GlobalHydra.instance().config_loader()).parse_overrides(overrides)


def expand(overrides: list[str]) -> list[list[str]]:
    """The jobs of a command line, each with its overrides; the last sweep varies fastest, as in Hydra.

    `a=1,2`, `a=range(5)`, `a=choice(1,2)`, `a=glob(*)` multiply; `a=zip(1,2) b=zip(x,y)` are two jobs; `zip(..., by=name)` makes several
    such axes. A swept job leaves out the keys that its options do not have (`loss=ce,gce loss.q=0.5,0.7` are three jobs).

    Raises:
        UserError: what cannot be read, zips of different lengths, a swept key that is set twice, a key that exists under none of the options.
    """
    axes: dict[str, list[tuple[str, ...]]] = {}
    seen: dict[str, Override] = {}
    for number, override in enumerate(parse(rewrite(overrides))):
        before = seen.setdefault(key := override.get_key_element().lstrip("+"), override)
        if before is not override and (before.is_sweep_override() or override.is_sweep_override()):
            raise UserError(f"'{key}' is set twice: {before.input_line} and {override.input_line}")
        if not override.is_sweep_override():
            axes[f"fixed {number}"] = [(override.input_line,)]
            continue
        if isinstance(override.value(), IntervalSweep):
            raise UserError(f"{override.input_line}: an interval is for runner search; a sweep takes values, such as a,b or range(5)")
        with explained():
            values = tuple(f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator())
        if not values:
            raise UserError(f"{override.input_line} chooses nothing")
        sweep = override.value()
        if isinstance(sweep, Zip):
            axis = f"zip {sweep.by}"
            if len(axes.setdefault(axis, [()] * len(values))) != len(values):
                raise UserError(f"{override.input_line}: zip(...) of {len(values)} values goes with one of {len(axes[axis])}; give both as many")
            axes[axis] = [(*done, value) for done, value in zip(axes[axis], values, strict=True)]
        else:
            axes[f"sweep {number}"] = [(value,) for value in values]
    jobs = [rewrite([o for part in job for o in part]) for job in itertools.product(*axes.values())]
    return _conditional(jobs) if len(jobs) > 1 else jobs


def _conditional(jobs: list[list[str]]) -> list[list[str]]:
    """The jobs without the keys that their own choice of a swept group does not have, each once."""
    chosen = [{k: v for k, _, v in (o.partition("=") for o in job) if k in registry.GROUPS} for job in jobs]
    swept = {group for found in chosen for group in found if len({c.get(group) for c in chosen}) > 1}
    keys = {k for job in jobs for k in map(_key, job) if "." in k and k.split(".")[0] in swept}
    lacks = {(key, option): not has(key, option) for key in keys for option in {c[key.split(".")[0]] for c in chosen}}
    for key in keys:
        if all(gone for (k, _), gone in lacks.items() if k == key):
            keys = keys - {key}  # a mistake, which composition will name
    kept = {}
    for job, options in zip(jobs, chosen, strict=True):
        left = [o for o in job if (k := _key(o)) not in keys or not lacks[k, options[k.split(".")[0]]]]
        kept[tuple(left)] = left
    return list(kept.values())


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+")


def has(key: str, option: str) -> bool:
    """Whether a key exists when its group is set to `option`: a name or a list of names, as on the command line."""
    group, _, rest = key.partition(".")
    names = [n.strip().strip("'\"") for n in option.strip("[]").split(",")]
    if registry.GROUPS[group]:
        return rest.split(".")[0] in names
    known = [recipes.behind(group, n) for n in names]
    if None in known:
        return True  # a mistake: composition decides
    return any(rest.split(".")[0] in {*schema(group, n).parameters, *names[1:]} for n in known[:1])


def own(jobs: list[list[str]]) -> list[list[str]]:
    """What sets each job apart from the others."""
    common = set.intersection(*(set(job) for job in jobs)) if len(jobs) > 1 else set()
    return [[o for o in job if o not in common] for job in jobs]
