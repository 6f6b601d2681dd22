"""A search space: which keys a search may set to what, read from the command line, a YAML file or a recipe.

KEY: [VALUE, ...]                          # one of these
KEY: {choice: [VALUE, ...], when: {loss: gce}}
KEY: {interval: [LOW, HIGH], log: true}    # a float between them; an integer with `int: true`
KEY: {range: [START, STOP, STEP]}          # as Python's range, without STOP

They are the functions of Hydra's grammar, and mean the same on the command line: `optimizer.lr=tag(log,interval(1e-3,1.0))`.
"""

import graphlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import yaml
from hydra.core.override_parser.types import Override

from runner.config import compose, expand, recipes, registry
from runner.config.overrides import text
from runner.core.errors import UserError, nearest

FUNCTIONS = ("choice", "interval", "range")
WORDS = (*FUNCTIONS, "int", "log", "when")


@dataclass(frozen=True)
class Choice:
    """One of several values, as text of the command line."""

    values: tuple[str, ...]

    @property
    def ends(self) -> tuple[str, ...]:
        return self.values

    def suggest(self, trial, key: str) -> str:
        return trial.suggest_categorical(key, self.values)


@dataclass(frozen=True)
class Interval:
    """Numbers from `low` to `high`, both included: integers if both are, in steps if `step` is given, on a logarithmic scale if `log`."""

    low: float
    high: float
    step: float | None = None
    log: bool = False

    @property
    def ends(self) -> tuple[float, float]:
        return self.low, self.high

    def suggest(self, trial, key: str) -> float:
        if isinstance(self.low, int):
            return trial.suggest_int(key, self.low, self.high, step=self.step or 1, log=self.log)
        return trial.suggest_float(key, self.low, self.high, step=self.step, log=self.log)


@dataclass(frozen=True)
class Space:
    """What is fixed and what is searched.

    Attributes:
        fixed: overrides of every trial.
        axes: the searched keys.
        when: key -> the searched keys and their values with which alone it is there. Keys of fixed overrides may have such conditions too.
    """

    fixed: tuple[str, ...]
    axes: dict[str, Choice | Interval]
    when: dict[str, dict[str, tuple[str, ...]]]

    @cached_property
    def order(self) -> tuple[str, ...]:
        """The searched keys, each behind those that it depends on. Raises UserError for keys that depend on each other."""
        try:
            return tuple(graphlib.TopologicalSorter({key: self.when.get(key, ()) for key in self.axes}).static_order())
        except graphlib.CycleError as error:
            raise UserError(f"these keys depend on each other: {', '.join(dict.fromkeys(error.args[1]))}") from error

    def suggest(self, trial) -> dict:
        """What a trial of Optuna sets: key -> value, only the keys that are there with its other values."""
        values: dict = {}
        for key in self.order:
            if self._there(key, values):
                values[key] = self.axes[key].suggest(trial, key)
        return values

    def overrides(self, values: dict) -> list[str]:
        """The command line of a trial's values."""
        fixed = [o for o in self.fixed if self._there(o.partition("=")[0], values)]
        return compose.rewrite([*fixed, *(f"{key}={value}" for key, value in values.items())])

    def corners(self) -> Iterator[list[str]]:
        """Command lines in which every key takes every value of a choice, and both ends of an interval: if these are valid, so is the space."""
        for key in self.order:
            for end in self.axes[key].ends:
                yield self.overrides(self._corner({**self._needed(key), key: end}))

    def _there(self, key: str, values: dict) -> bool:
        return all(values.get(other) in allowed for other, allowed in self.when.get(key, {}).items())

    def _needed(self, key: str) -> dict[str, str]:
        """Values with which a key is there."""
        return {k: v for other, allowed in self.when.get(key, {}).items() for k, v in {**self._needed(other), other: allowed[0]}.items()}

    def _corner(self, chosen: dict) -> dict:
        values: dict = {}
        for key in self.order:
            if self._there(key, values):
                values[key] = chosen.get(key, self.axes[key].ends[0])
        return values


def of(overrides: list[str], file: Path | None = None) -> Space:
    """The space of a command line, laid over that of a file, laid over that of its recipe. Needs Hydra to be initialised.

    A key that the command line sets to one value is not searched. A key that some options of a searched group lack is there with the others only.

    Raises:
        UserError: what cannot be read, has no values, or depends on a key that is not searched; or nothing is searched.
    """
    given = {o.get_key_element(): o for o in expand.parse(compose.rewrite(overrides))}
    declared = {**_of_recipe(given.get("+recipe")), **(_of_file(file) if file else {})}
    asked = {o.get_key_element(): o for o in expand.parse([_line(key, spec) for key, spec in declared.items()])}
    asked |= {key: o for key, o in given.items() if o.is_sweep_override() or key in asked}
    if not any(o.is_sweep_override() for o in asked.values()):
        raise UserError("nothing to search; give keys values to choose from, such as loss=ce,gce or 'optimizer.lr=tag(log,interval(1e-3,1))', or --space FILE")
    axes = {key: _axis(override) for key, override in asked.items()}
    fixed = {key: o.input_line for key, o in given.items() if key not in axes}
    when = {key: _conditions(key, axes, declared.get(key)) for key in (*axes, *fixed)}
    axes = {key: axis for key, axis in axes.items() if all(when[key].values())}  # without those of options that the command line rules out
    return Space(tuple(fixed.values()), axes, {key: conditions for key, conditions in when.items() if conditions})


def _of_recipe(chosen: Override | None) -> dict:
    return {} if chosen is None or chosen.is_sweep_override() else recipes.read(str(chosen.value())).get("search") or {}


def _of_file(file: Path) -> dict:
    try:
        content = recipes.parse(file.read_text())
    except OSError as error:
        raise UserError(f"--space {file}: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"--space {file} is not valid YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict):
        raise UserError(f"--space {file} holds no keys; it takes lines such as loss: [ce, gce]")
    return content


def _line(key: str, spec) -> str:
    """A declared key in Hydra's grammar."""
    spec = spec if isinstance(spec, dict) else {"choice": spec}
    for word in spec:
        if word not in WORDS:
            raise UserError(f"{key}: no '{word}' in a search space{nearest(word, WORDS)}")
    functions = [word for word in FUNCTIONS if word in spec]
    if len(functions) != 1 or not isinstance(spec[functions[0]], list):
        raise UserError(f"{key}: {spec} is no search space; it takes one list: [a, b], {{interval: [low, high]}} or {{range: [start, stop]}}")
    call = f"{functions[0]}({','.join(map(text, spec[functions[0]]))})"
    call = f"int({call})" if spec.get("int") else call
    return f"{key}=tag(log,{call})" if spec.get("log") else f"{key}={call}"


def _axis(override: Override) -> Choice | Interval:
    line, sweep = override.input_line, override.value()
    if not override.is_sweep_override():
        return Choice((line.partition("=")[2],))
    if isinstance(sweep, expand.Zip):
        raise UserError(f"{line}: zip(...) is for sweeps; a search chooses every key by itself")
    if unknown := sweep.tags - {"log"}:
        raise UserError(f"{line}: no tag '{min(unknown)}'; a search knows 'log'")
    log = "log" in sweep.tags
    if log and not override.is_interval_sweep():
        raise UserError(f"{line}: 'log' goes with interval(...)")
    if override.is_interval_sweep():
        if not sweep.start < sweep.end:
            raise UserError(f"{line}: an interval goes from the smaller number to the larger one")
        if log and sweep.start <= 0:
            raise UserError(f"{line}: a logarithmic interval starts above 0")
        return Interval(sweep.start, sweep.end, log=log)
    if override.is_range_sweep() and len(numbers := sorted(sweep.range())) > 1:
        return Interval(numbers[0], numbers[-1], abs(sweep.step))
    values = tuple(dict.fromkeys(override.sweep_string_iterator()))
    if not values:
        raise UserError(f"{line} chooses nothing")
    return Choice(values)


def _conditions(key: str, axes: dict[str, Choice | Interval], spec) -> dict[str, tuple[str, ...]]:
    """The searched keys, and their values, without which a key is not there: those that are declared, and its group's options that have it."""
    declared = (spec.get("when") or {}) if isinstance(spec, dict) else {}
    found = {}
    for other, wanted in declared.items():
        values = tuple(map(text, wanted if isinstance(wanted, list) else [wanted]))
        if not isinstance(axes.get(other), Choice):
            raise UserError(f"{key}: 'when' asks for '{other}', which is no searched choice{nearest(other, [k for k in axes if k != key])}")
        known = axes[other].values
        if len(known) > 1 and (unknown := [v for v in values if v not in known]):
            raise UserError(f"{key}: '{other}' is never {unknown[0]}{nearest(unknown[0], known)}")
        found[other] = tuple(v for v in values if v in known)
    group = key.partition(".")[0]
    if "." in key and group in registry.GROUPS and group in axes:
        options = axes[group].values
        having = tuple(option for option in options if expand.has(key, option))
        ruled_out = spec is not None and len(options) == 1  # by the command line; else a key that none has is a mistake, which composition names
        if len(having) < len(options) and (having or ruled_out):
            found.setdefault(group, having)
    return found
