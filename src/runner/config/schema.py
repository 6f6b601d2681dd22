"""The schema of a component is the signature of its `build`, read with `ast`: options, defaults, types, ranges and help.

A range stands at the start of an option's help: `in [0, 1]`, `in (0, inf)`, `> 0`, `>= 1`. An option whose help ends with
`Does not change the result.` is left out of a run's identity.
"""

import ast
import functools
import inspect
import math
import re
from dataclasses import dataclass
from pathlib import Path

from runner.core.card import Card, card
from runner.core.clock import DURATION
from runner.core.errors import UserError, nearest

REQUIRED = "???"
_INTERVAL = re.compile(r"in ([\[(])\s*([^,\s]+)\s*,\s*([^\])\s]+)\s*([\])])")
_BOUND = re.compile(r"(>=|<=|>|<) (-?[\d.eE+-]*\d)")
_TYPES = {"int": int, "float": float, "str": str, "bool": bool, "list": list, "tuple": tuple, "dict": dict}


@dataclass(frozen=True)
class Parameter:
    """One option of a component: `kinds` are the accepted types, `choices` the accepted values of a Literal."""

    name: str
    kinds: tuple[str, ...]
    choices: tuple
    default: object
    help: str
    line: int

    @property
    def required(self) -> bool:
        return isinstance(self.default, str) and self.default == REQUIRED

    @property
    def cosmetic(self) -> bool:
        return self.help.endswith("Does not change the result.")

    def matters(self, value) -> bool:
        """Whether a value may give another result than the default."""
        plain = lambda v: list(v) if isinstance(v, tuple) else v
        return not self.cosmetic and plain(value) != plain(self.default)

    @property
    def type(self) -> str:
        return " | ".join([*(repr(c) for c in self.choices), *self.kinds])

    def check(self, where: str, value):
        """The value, converted where that loses nothing. Raises UserError for a wrong type or a value out of range."""
        if isinstance(value, str) and value == REQUIRED:
            raise UserError(f"{where} must be given ({self.type}): {self.help}")
        if self.choices and value in self.choices and not isinstance(value, bool):
            return value
        converted = next((c for kind in self.kinds if (c := _convert(kind, value)) is not None), None)
        if converted is None:
            if value is None and "None" in self.kinds:
                return None
            hint = (
                nearest(value, self.choices)
                if self.choices and isinstance(value, str)
                else f"; it takes {self.type}".replace("Duration", "a duration such as 80ep or 500it")
            )
            raise UserError(f"{where}={value!r} is not valid{hint}")
        if problem := _out_of_range(self.help, converted):
            raise UserError(f"{where}={value} is out of range: it must be {problem}")
        return converted


@dataclass(frozen=True)
class Schema:
    """What `ast` says of one component file."""

    group: str
    option: str
    file: Path
    summary: str
    card: Card
    parameters: dict[str, Parameter]

    def defaults(self) -> dict:
        return {p.name: p.default for p in self.parameters.values()}

    def bind(self, values: dict, prefix: str | None = None) -> dict:
        """All options with the given values laid over the defaults, checked. Raises UserError."""
        prefix = self.group if prefix is None else prefix
        for key in values:
            if key not in self.parameters:
                raise UserError(f"unknown key '{dotted(prefix, key)}'{nearest(key, self.parameters)}")
        return {n: p.check(dotted(prefix, n), values.get(n, p.default)) for n, p in self.parameters.items()}


def dotted(prefix: str, key: str) -> str:
    return f"{prefix}.{key}" if prefix else key


def _convert(kind: str, value):
    base, _, inner = kind.partition("[")
    if kind == "Duration":
        return value if isinstance(value, str) and DURATION.fullmatch(value) else None
    if base in ("list", "tuple") and isinstance(value, list | tuple):
        items = [_convert(inner.rstrip("]").split(",")[0], v) if inner else v for v in value]
        return None if any(i is None for i in items) else _TYPES[base](items)
    if base == "float" and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if base == "int" and isinstance(value, bool):
        return None
    return value if isinstance(value, _TYPES.get(base, ())) else None


def _out_of_range(text: str, value) -> str | None:
    values = value if isinstance(value, list | tuple) else [value]
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if found := _INTERVAL.match(text):
        left, low, high, right = found.groups()
        low, high = float(low), float(high)
        inside = all((low < v or (left == "[" and v == low)) and (v < high or (right == "]" and v == high)) for v in numbers)
        return None if inside else found.group(0)
    if found := _BOUND.match(text):
        sign, bound = found.group(1), float(found.group(2))
        test = {">": float.__gt__, ">=": float.__ge__, "<": float.__lt__, "<=": float.__le__}[sign]
        return None if all(test(float(v), bound) for v in numbers) else found.group(0)
    return None if all(math.isfinite(v) for v in numbers) or "inf" in text else "finite"


class _Mistake(Exception):
    """What cannot be read of a component: the line, and why."""


def _literal(node: ast.expr):
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError) as error:
        raise _Mistake(node.lineno, f"'{ast.unparse(node)}' is no literal; what is read without importing it takes numbers, text, lists and None") from error


def _card(node: ast.Assign) -> Card:
    call = node.value
    if not isinstance(call, ast.Call) or call.args:
        raise _Mistake(node.lineno, "CARD is declared as CARD = card(NAME=VALUE, ...)")
    known = inspect.signature(card).parameters
    for keyword in call.keywords:
        if keyword.arg not in known:
            raise _Mistake(keyword.lineno, f"a card has no '{keyword.arg}'{nearest(keyword.arg, known)}")
    return card(**{k.arg: _literal(k.value) for k in call.keywords})


def _kinds(node) -> tuple[list[str], list]:
    """Types and literal values of an annotation."""
    if node is None:
        return [], []
    if isinstance(node, ast.BinOp):
        (left, chosen), (right, more) = _kinds(node.left), _kinds(node.right)
        return left + right, chosen + more
    if isinstance(node, ast.Subscript) and getattr(node.value, "id", "") == "Literal":
        items = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        return [], [_literal(i) for i in items]
    return [ast.unparse(node).replace(" ", "")], []


def _arguments(docstring: str) -> dict[str, str]:
    """The `Args:` section: option -> help on one line."""
    found, current, base = {}, None, None
    _, _, section = docstring.partition("Args:\n")
    for line in section.splitlines():
        indent = len(line) - len(line.lstrip())
        base = indent if base is None and line.strip() else base
        if line.strip() and indent < base:
            break
        if indent == base and (match := re.match(r"\s*(\w+): (.*)", line)):
            current, found[match.group(1)] = match.group(1), match.group(2).strip()
        elif current and line.strip():
            found[current] += " " + line.strip()
    return found


def signature(function: ast.FunctionDef) -> dict[str, Parameter]:
    """The parameters of a parsed function."""
    text = _arguments(ast.get_docstring(function) or "")
    spec = function.args
    defaults = [None] * (len(spec.args) - len(spec.defaults)) + list(spec.defaults) + list(spec.kw_defaults)
    found = {}
    for argument, default in zip([*spec.args, *spec.kwonlyargs], defaults, strict=True):
        kinds, choices = _kinds(argument.annotation)
        value = REQUIRED if default is None else _literal(default)
        found[argument.arg] = Parameter(argument.arg, tuple(kinds), tuple(choices), value, text.get(argument.arg, ""), argument.lineno)
    return found


@functools.cache
def read(file: Path, function: str = "build") -> tuple[str, Card, dict[str, Parameter]]:
    """Summary line, card and parameters of a component file, without importing it. Raises UserError with the line of what cannot be read."""
    try:
        return _read(file, function)
    except SyntaxError as error:
        raise UserError(f"{file}:{error.lineno}: {error.msg}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: {error}") from error
    except _Mistake as error:
        line, why = error.args
        raise UserError(f"{file}:{line}: {why}") from error


def _read(file: Path, function: str) -> tuple[str, Card, dict[str, Parameter]]:
    tree = ast.parse(file.read_text(), str(file))
    declared, build = Card(), None
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "CARD":
            declared = _card(node)
        if isinstance(node, ast.FunctionDef) and node.name == function:
            build = node
    if build is None:
        raise UserError(f"{file} has no function '{function}'")
    return (ast.get_docstring(tree) or "").split("\n\n")[0].replace("\n", " "), declared, signature(build)


def schema(group: str, option: str) -> Schema:
    """The schema of an option. Raises UserError with the nearest name if there is none."""
    from runner.config import registry

    file = registry.locate(group, option)
    return Schema(group, option, file, *read(file))
