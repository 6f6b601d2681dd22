"""A table in words: for the terminal, Markdown, LaTeX, CSV and JSON."""

import csv
import io
import json
import math
import re

from rich.console import Group
from rich.table import Table as Grid
from rich.text import Text

from runner.report.table import ALPHA, Entry, Table

HOLE = "–"


def decimals(values: list[float]) -> int:
    """How many decimals a table shows: two for values up to 100, such as percentages, else what its largest value needs for three digits."""
    top = max((abs(v) for v in values if math.isfinite(v)), default=0.0)
    return 2 if top == 0 or 1 <= top <= 100 else max(0, 2 - math.floor(math.log10(top)))


def digits(table: Table) -> int:
    return decimals([entry.interval.mean for entry in table.cells.values()])


def shown(entry: Entry, table: Table, places: int) -> str:
    """`94.12 ± 0.53`, with its number of seeds where that is not the table's."""
    found = entry.interval
    if not found.n:
        return HOLE
    half = f" ± {found.half:.{places}f}" if found.n > 1 else ""
    return f"{found.mean:.{places}f}{half}" + (f" n={found.n}" if found.n < len(table.seeds) else "")


def published(entry: Entry) -> str:
    return "" if entry.published is None else f"({entry.published:g})"


def notes(table: Table) -> list[str]:
    """The lines below a table: what its numbers are."""
    many = len(table.seeds)
    spread = f"Mean ± half-width of the 95 % interval (Student's t) over {many} seeds" + ("; n= where there are fewer." if _uneven(table) else ".")
    said = [spread if many > 1 else "One seed, so no intervals."]
    if len(table.rows) > 1 and many > 1:
        said.append(_about_best(table))
    if table.source:
        apart = "" if table.source_scale == table.scale and not table.extra else f", while this is scale {', '.join([table.scale, *table.extra])}"
        at = f" at scale {table.source_scale}" if table.source_scale else ""
        said.append(f"In parentheses: published{at}{apart}; {table.source}.")
    return said


def _uneven(table: Table) -> bool:
    return any(0 < entry.interval.n < len(table.seeds) for entry in table.cells.values())


def _about_best(table: Table) -> str:
    if table.better is None:
        return "No row is marked as best: no evaluator of these runs says which values are good."
    test = f"than every other row of its column (paired t tests over common seeds, Holm-corrected, p < {ALPHA})"
    way = {"max": "higher", "min": "lower"}[table.better]
    return f"Bold: significantly {way} {test}." if any(e.best for e in table.cells.values()) else f"No row is significantly {way} {test}."


def rich(table: Table) -> Group:
    """For `Console.print`."""
    places = digits(table)
    grid = Grid(title=Text(table.title), title_justify="left")
    grid.add_column(Text(table.key, "dim"), no_wrap=True)
    for col in table.cols:
        grid.add_column(Text(table.label(col)), justify="right", no_wrap=True)
    for row in table.rows:
        entries = [table.cells[row, col] for col in table.cols]
        texts = [Text(shown(e, table, places), "bold green" if e.best else "") for e in entries]
        grid.add_row(Text(row), *(t if e.published is None else t.append(f"\n{published(e)}", "not bold dim") for t, e in zip(texts, entries, strict=True)))
    return Group(grid, *(Text(line, "dim") for line in notes(table)))


def markdown(table: Table) -> str:
    """A table as GitHub renders it, with its title above and its notes below."""
    places = digits(table)
    escape = lambda text: re.sub(r"([\\|*<`])", r"\\\1", text)
    bold = lambda entry, text: f"**{text}**" if entry.best else text
    lines = [[table.key, *map(table.label, table.cols)]]
    for row in table.rows:
        entries = [table.cells[row, col] for col in table.cols]
        lines.append([row, *(f"{bold(e, shown(e, table, places))} {published(e)}".strip() for e in entries)])
    heads, *body = [[escape(c) if k == 0 or n == 0 else c for k, c in enumerate(line)] for n, line in enumerate(lines)]
    rule = ["---", *("---:" for _ in table.cols)]
    grid = "\n".join(f"| {' | '.join(line)} |" for line in (heads, rule, *body))
    return f"**{escape(table.title)}**\n\n{grid}\n\n" + "\n".join(f"{escape(line)}  " for line in notes(table)).rstrip() + "\n"


_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$", "±": r"$\pm$", "–": "--"}


def tex(text: str) -> str:
    """Text with LaTeX's special characters escaped."""
    return "".join(_LATEX.get(c, f"\\{c}" if c in "&%$#_{}" else c) for c in text)


def latex(table: Table) -> str:
    """A `table` environment; needs the package booktabs."""
    places = digits(table)
    bold = lambda entry, text: f"\\textbf{{{text}}}" if entry.best else text
    lines = []
    for row in table.rows:
        entries = [table.cells[row, col] for col in table.cols]
        lines.append([tex(row), *(bold(e, tex(shown(e, table, places))) for e in entries)])
        if any(map(published, entries)):
            lines.append(["", *map(published, entries)])
    over = f" & \\multicolumn{{{len(table.cols)}}}{{c}}{{{tex(table.key)}}} \\\\\n\\cmidrule(l){{2-{len(table.cols) + 1}}}\n" if table.key else ""
    heads = " & ".join(["", *(tex(table.label(col)) for col in table.cols)])
    body = "\n".join(f"{' & '.join(line)} \\\\" for line in lines)
    return (
        "% \\usepackage{booktabs}\n\\begin{table}\n\\centering\\small\n"
        f"\\caption{{{tex(table.title)}. {' '.join(map(tex, notes(table)))}}}\n"
        f"\\begin{{tabular}}{{@{{}}l{'r' * len(table.cols)}@{{}}}}\n\\toprule\n"
        f"{over}{heads} \\\\\n\\midrule\n{body}\n\\bottomrule\n\\end{{tabular}}\n\\end{{table}}\n"
    )


def long(table: Table) -> str:
    """CSV with a line a run; the value is empty where there is none."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["recipe", "table", "scale", "metric", "row", "col", "seed", "value", "run"])
    for (row, col), entry in table.cells.items():
        for seed, run in entry.runs.items():
            writer.writerow([table.recipe, table.name, table.scale, table.metric, row, col, seed, entry.values.get(seed, ""), run])
    return stream.getvalue()


def whole(table: Table) -> str:
    """JSON with everything that the other formats show, unrounded."""
    finite = lambda value: value if math.isfinite(value) else None
    cells = [
        {
            "row": row, "col": col, "mean": finite(e.interval.mean), "low": finite(e.interval.low), "high": finite(e.interval.high), "n": e.interval.n,
            "values": {seed: finite(value) for seed, value in e.values.items()}, "runs": e.runs, "published": e.published, "best": e.best,
        }
        for (row, col), e in table.cells.items()
    ]  # fmt: skip
    about = {k: getattr(table, k) for k in ("title", "recipe", "name", "scale", "metric", "better", "key", "rows", "cols", "seeds", "extra")}
    return (
        json.dumps({**about, "source": table.source, "source_scale": table.source_scale, "notes": notes(table), "cells": cells}, indent=1, ensure_ascii=False)
        + "\n"
    )


TEXT = {"md": markdown, "latex": latex, "csv": long, "json": whole}
