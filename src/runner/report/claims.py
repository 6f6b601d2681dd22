"""What a recipe claims: one expression over the rows of its tables, in a small grammar of its own. It is parsed, never executed.

    a - b >= 5          a >= 95          a / b >= 2          (a + b) / 2 > c       numbers and rows, + - * /, >= <= > <
    a >= b >= c         chains: every step must hold
    a == b              the same bits, seed by seed
    rising(a, b, c)     each row above the one before; falling(a, b, c) below. With `by=0.5` each step is at least so large, with `by=-0.5`
                        a step back of up to so much is allowed

A claim stands in its recipe as {say: SENTENCE, that: EXPRESSION, at: {KEY: VALUE}, metric: METRIC, scale: mini, seeds: 5}: the runs are the rows' with
the overrides `at`; `metric` is as in a table, the table's own if not given; `seeds: n` are the seeds 0 to n - 1. Its rows are those of the first table
that has them all: a row of the same name may be another thing in another table.
"""

import ast
import hashlib
import itertools
import operator
from dataclasses import dataclass

from runner.config import recipes
from runner.config.overrides import settings
from runner.core.errors import UserError, nearest
from runner.report import cells

KEYS = ("say", "that", "at", "metric", "scale", "seeds")
RELATIONS = {ast.GtE: ">=", ast.LtE: "<=", ast.Gt: ">", ast.Lt: "<", ast.Eq: "=="}
ARITHMETIC = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
STEPS = {"rising": 1.0, "falling": -1.0}
TAKES = "it takes rows, numbers, + - * /, >= <= > < ==, rising(...) and falling(...)"


@dataclass(frozen=True)
class Comparison:
    """`left RELATION right`; rows stand for one value a seed."""

    left: ast.expr
    relation: str
    right: ast.expr

    @property
    def exact(self) -> bool:
        return self.relation == "=="

    @property
    def strict(self) -> bool:
        return self.relation in (">", "<")

    @property
    def threshold(self) -> float:
        """The constant part of the right side: 5 of `a - b >= 5`, 0 of `a >= b`."""
        return _constant(self.right)

    def margin(self, rows: dict):
        """By how much it holds, seed by seed: 0 at the threshold, negative where it does not hold."""
        difference = value(self.left, rows) - value(self.right, rows)
        return -difference if self.relation in ("<=", "<") else difference

    def effect(self, rows: dict):
        """What is compared with the threshold: `a - b` of `a - b >= 5` and of `a >= b + 5`."""
        return value(self.left, rows) - value(self.right, rows) + self.threshold


@dataclass(frozen=True, eq=False)
class Claim:
    """A claim, checked against its recipe; `scale` and `seeds` are its own, `rows` are names with their overrides."""

    recipe: str
    say: str
    that: str
    at: dict
    metric: str
    scale: str
    seeds: list[int]
    parts: tuple[Comparison, ...]
    rows: dict[str, tuple[str, ...]]

    @property
    def condition(self) -> str:
        """`elr - ce >= 10 (test/acc_last, noise.rate=0.4)`: tells it from the other claims of its recipe."""
        return f"{self.that} ({', '.join([self.metric, *settings(self.at)])})"

    def runs(self, scale: str, seeds: list[int]) -> list[cells.Cell]:
        """The runs that it compares."""
        about, at = (f"+recipe={self.recipe}", f"scale={scale}"), settings(self.at)
        rows = self.rows if scale == self.scale else _rows_of(self.recipe, tuple(self.rows), scale)[0]
        return [cells.Cell(row, "", seed, (*about, *rows[row], *at, f"seed={seed}")) for row in self.rows for seed in seeds]


def of(recipe: str) -> list[Claim]:
    """A recipe's claims, as they stand. Raises UserError for an unknown recipe and for a claim that says nothing that can be checked."""
    return [_claim(recipe, spec) for spec in recipes.read(recipe).get("claims") or []]


def setups(asked: list[tuple[Claim, str]]) -> list[str]:
    """Of claims at scales, eight hex digits of what each compares: they change with every setting that changes a result, but for the seeds."""
    runs = [claim.runs(scale, [0]) for claim, scale in asked]
    ids = iter(cells.plan([cell for own in runs for cell in own]).asked)
    return [hashlib.sha256(" ".join(next(ids) for _ in own).encode()).hexdigest()[:8] for own in runs]


def _claim(recipe: str, spec: dict) -> Claim:
    where = f"recipe {recipe} claims {spec['that']!r}" if isinstance(spec, dict) and "that" in spec else f"recipe {recipe}, claim {spec!r}"
    if not isinstance(spec, dict) or not {"say", "that"} <= spec.keys():
        raise UserError(f"{where}: a claim has a sentence `say` and a condition `that`")
    for key in spec:
        if key not in KEYS:
            raise UserError(f"{where}: unknown key '{key}'{nearest(key, KEYS)}")
    many, at = spec.get("seeds", 5), spec.get("at") or {}
    if not isinstance(many, int) or many < 1:
        raise UserError(f"{where}: seeds={many!r} is not valid; it takes a number of seeds, 1 or more")
    if not isinstance(at, dict):
        raise UserError(f"{where}: at={at!r} is not valid; it takes keys with their values")
    scale = str(spec.get("scale", "mini"))
    try:
        parts = parse(str(spec["that"]))
        known, metric = _rows_of(recipe, names(parts), scale)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    metric = spec.get("metric") or metric
    if not isinstance(metric, str):
        raise UserError(f"{where}: metric={metric!r} is not valid; it takes one of a run's summary, such as test/acc_last, or test/acc_last10")
    rows = {row: known[row] for row in names(parts)}
    return Claim(recipe, str(spec["say"]), str(spec["that"]), at, metric, scale, list(range(many)), parts, rows)


def _rows_of(recipe: str, rows: tuple[str, ...], scale: str) -> tuple[dict[str, tuple[str, ...]], object]:
    """All rows, with their overrides, and the metric of the first table that has these rows at a scale. Raises UserError."""
    tables = [(cells.axis(table.get("rows")), table.get("metric")) for table in cells.tables(recipe, scale).values()]
    known = {row for own, _ in tables for row in own}
    for row in rows:
        if row not in known:
            raise UserError(f"no row '{row}' at scale {scale}{nearest(row, known)}")
    for own, metric in tables:
        if own.keys() >= set(rows):
            return own, metric
    raise UserError(f"no table has all of the rows {', '.join(rows)}")


def parse(text: str) -> tuple[Comparison, ...]:
    """The comparisons that must all hold. Raises UserError."""
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError) as error:
        raise UserError(f"this is no condition: {getattr(error, 'msg', error)}; {TAKES}") from error
    found = _steps(node) if isinstance(node, ast.Call) else _chain(node)
    for part in found:
        if not names([part]):
            raise UserError(f"'{ast.unparse(part.left)} {part.relation} {ast.unparse(part.right)}' names no row")
    return tuple(found)


def _chain(node: ast.expr) -> list[Comparison]:
    if not isinstance(node, ast.Compare):
        raise UserError(f"'{ast.unparse(node)}' compares nothing; {TAKES}")
    for relation in node.ops:
        if type(relation) not in RELATIONS:
            raise UserError(f"'{ast.unparse(node)}' cannot be read; {TAKES}")
    terms = [_checked(term) for term in (node.left, *node.comparators)]
    return [Comparison(a, RELATIONS[type(r)], b) for (a, b), r in zip(itertools.pairwise(terms), node.ops, strict=True)]


def _steps(node: ast.Call) -> list[Comparison]:
    """`rising(a, b, by=0.5)` is `b - a >= 0.5`, without `by` `b - a > 0`; `falling(a, b)` is `a - b > 0`."""
    name = ast.unparse(node.func)
    if name not in STEPS:
        raise UserError(f"no function '{name}'{nearest(name, STEPS)}")
    if len(node.args) < 2 or {k.arg for k in node.keywords} - {"by"}:
        raise UserError(f"'{ast.unparse(node)}' cannot be read; {name}(...) takes two rows or more, and by=NUMBER")
    by = [_checked(k.value) for k in node.keywords]
    if by and _rows(by[0]):
        raise UserError(f"by={ast.unparse(by[0])} is not valid; it takes a number")
    pairs = itertools.pairwise(_checked(term) for term in node.args[:: int(STEPS[name])])
    steps = [Comparison(ast.BinOp(b, ast.Sub(), a), ">=" if by else ">", by[0] if by else ast.Constant(0.0)) for a, b in pairs]
    return steps[:: int(STEPS[name])]


def _checked(node: ast.expr) -> ast.expr:
    """A term of the grammar. Raises UserError for anything else."""
    match node:
        case ast.Name():
            return node
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return node
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            _checked(operand)
            return node
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in ARITHMETIC:
            _checked(left)
            _checked(right)
            if isinstance(sign, ast.Div) and not _rows(right) and value(right, {}) == 0:
                raise UserError(f"'{ast.unparse(node)}' divides by zero")
            return node
    raise UserError(f"'{ast.unparse(node)}' cannot be read; {TAKES}")


def value(node: ast.expr, rows: dict):
    """A term with the rows' values, arrays or numbers, put in."""
    match node:
        case ast.Name(id=name):
            return rows[name]
        case ast.UnaryOp(op=sign, operand=operand):
            return -value(operand, rows) if isinstance(sign, ast.USub) else value(operand, rows)
        case ast.BinOp(left=left, op=sign, right=right):
            return ARITHMETIC[type(sign)](value(left, rows), value(right, rows))
    return float(node.value)


def names(parts) -> tuple[str, ...]:
    """The rows of comparisons, in the order of their first mention."""
    return tuple(dict.fromkeys(row for part in parts for side in (part.left, part.right) for row in _rows(side)))


def _rows(node: ast.expr) -> list[str]:
    return [part.id for part in ast.walk(node) if isinstance(part, ast.Name)]


def _constant(node: ast.expr) -> float:
    """The sum of a term's summands without rows."""
    if not _rows(node):
        return value(node, {})
    match node:
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _constant(left) + _constant(right)
        case ast.BinOp(left=left, op=ast.Sub(), right=right):
            return _constant(left) - _constant(right)
    return 0.0
