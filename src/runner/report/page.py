"""A recipe's report: one HTML page that holds everything, style and plots too, and loads nothing."""

import time
from html import escape

import yaml

from runner.execution.store import Store
from runner.report import cells, formats, plots
from runner.report.jobs import span
from runner.report.table import Table
from runner.report.verdict import spelled

STYLE = """
:root { color-scheme: light dark; --ink: #222; --paper: #fff; --faint: #777; --line: #ccc; --mark: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --ink: #ddd; --paper: #16181c; --faint: #999; --line: #444; --mark: #56b4e9; } }
body { color: var(--ink); background: var(--paper); font: 1rem/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; line-height: 1.25; } h2 { font-size: 1.2rem; margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
a { color: var(--mark); } .faint, small { color: var(--faint); } .wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .15rem .7rem; text-align: right; vertical-align: top; white-space: nowrap; } tbody th { font-weight: normal; }
th:first-child, .words th, .words td { text-align: left; }
thead th { border-bottom: 1px solid var(--ink); } tbody tr:nth-child(even) { background: color-mix(in srgb, var(--ink) 5%, transparent); }
figure { margin: 1.5rem 0; } svg { width: 100%; max-width: 52rem; height: auto; } svg text { fill: currentColor; }
pre, code { font: .85rem/1.45 ui-monospace, monospace; } pre { overflow-x: auto; border: 1px solid var(--line); padding: .7rem; }
@media print {
  html { font-size: 11px; } body { max-width: none; margin: 0; } h2 { break-after: avoid; } figure, table { break-inside: avoid; } .wide { overflow: visible; }
}
"""


def page(recipe: str, spec: dict, tables: list[Table], store: Store, config: dict, skipped: dict[str, str], claims: list[tuple[str, str, str]]) -> str:
    """The whole page.

    Args:
        recipe, spec: the recipe's name and content.
        tables: what is shown; one at least.
        store: where the runs of the tables are.
        config: the whole config of the first table's first run, plain data.
        skipped: table -> why it is not shown.
        claims: sentence, condition and verdict of each.
    """
    first = tables[0]
    title = (spec.get("paper") or {}).get("title", recipe)
    parts = [
        header(recipe, spec, first.scale),
        *(table_section(table) for table in tables),
        section("Not shown", listing([f"<strong>{escape(name)}</strong>: {escape(why)}" for name, why in skipped.items()])) if skipped else "",
        learning_section(first, store),
        section("Claims", *map(claimed, claims)) if claims else "",
        section("Notes", paragraph(spec["notes"])) if spec.get("notes") else "",
        settings_section(tables, config),
        environment_section(tables, store),
    ]
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title><style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n' + "\n".join(filter(None, parts)) + "\n</body></html>\n"


def header(recipe: str, spec: dict, scale: str) -> str:
    paper = spec.get("paper") or {}
    arxiv = str(paper.get("arxiv") or "")
    link = f'<a href="https://arxiv.org/abs/{escape(arxiv)}">arXiv:{escape(arxiv)}</a>' if arxiv else ""
    about = [link, escape(str(paper.get("year") or "")), f"recipe <code>{escape(recipe)}</code>", f"scale {escape(scale)}", time.strftime("%Y-%m-%d")]
    return f'<h1>{escape(paper.get("title", recipe))}</h1>\n<p class="faint">{" · ".join(filter(None, about))}</p>'


def section(title: str, *content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>\n" + "\n".join(content) + "</section>"


def paragraph(text: str) -> str:
    return f"<p>{escape(str(text).strip())}</p>"


def listing(items: list[str]) -> str:
    return f"<ul>{''.join(f'<li>{item}</li>' for item in items)}</ul>"


def grid(heads: list[str], lines: list[list[str]], kind: str = "") -> str:
    """A `<table>` of cells that are HTML already; the first of each line is its name."""
    top = f"<thead><tr>{''.join(f'<th>{h}</th>' for h in heads)}</tr></thead>" if heads else ""
    body = "\n".join(f'<tr><th scope="row">{line[0]}</th>{"".join(f"<td>{c}</td>" for c in line[1:])}</tr>' for line in lines)
    return f'<div class="wide"><table class="{kind}">{top}<tbody>\n{body}\n</tbody></table></div>'


def drawn(figure, about: str) -> str:
    return "<figure>" + plots.svg(figure).replace("<svg", f'<svg role="img" aria-label="{escape(about)}"', 1) + "</figure>"


def table_section(table: Table) -> str:
    places = formats.digits(table)

    def cell(entry) -> str:
        text = escape(formats.shown(entry, table, places))
        text = f"<strong>{text}</strong>" if entry.best else text
        return text if entry.published is None else f"{text}<br><small>{formats.published(entry)}</small>"

    lines = [[escape(row), *(cell(table.cells[row, col]) for col in table.cols)] for row in table.rows]
    heads = [escape(table.key), *(escape(table.label(col)) for col in table.cols)]
    about = "<br>".join(map(escape, formats.notes(table)))
    return section(f"{table.name}: {table.metric}", grid(heads, lines), f"<p><small>{about}</small></p>", drawn(plots.of_table(table), table.title))


def learning_section(table: Table, store: Store) -> str:
    where = f" at {'='.join(filter(None, [table.key, table.cols[0]]))}" if table.cols[0] else ""
    figure = plots.learning(table, store)
    return section(
        f"Learning curves{where}", drawn(figure, f"learning curves{where}"), paragraph("Mean and 95 % interval over the seeds, at every measurement.")
    )


def claimed(claim: tuple[str, str, str]) -> str:
    say, condition, verdict = map(escape, claim)
    return f"<p>{say}<br><code>{condition}</code><br><strong>{verdict}</strong></p>"


def settings_section(tables: list[Table], config: dict) -> str:
    lines = []
    for table in tables:
        spec = cells.tables(table.recipe, table.scale)[table.name]
        for kind in ("rows", "cols"):
            lines += [[escape(label), escape(" ".join(sets)) or "the recipe as it is"] for label, sets in cells.axis(spec.get(kind)).items() if label]
    text = escape(yaml.safe_dump(config, sort_keys=False, default_flow_style=None, width=120))
    first = f"The first run of {tables[0].name}, whole"
    known = [list(line) for line in dict.fromkeys(map(tuple, lines))]
    return section(
        "Settings", grid(["row or column", "what it sets"], known, "words"), f"<details><summary>{escape(first)}</summary><pre>{text}</pre></details>"
    )


def environment_section(tables: list[Table], store: Store) -> str:
    """Versions and machines of all runs that are shown; several where they differ."""
    runs = {entry.runs[seed] for table in tables for entry in table.cells.values() for seed in entry.values}
    seconds = sum((store.done(run) or {}).get("seconds", 0.0) for run in runs)
    found: dict[str, dict[str, None]] = {}
    for run in sorted(runs):
        for key, value in (store.environment(run) or {}).items():
            if value is not None and key not in ("code", "files", "data"):  # fingerprints: one a method, one a data set
                found.setdefault(key, {})[str(value)] = None
    lines = [["runs", f"{len(runs)}, {span(seconds)} of training"], *([escape(k), escape(", ".join(v))] for k, v in found.items())]
    again = "\n".join(f"runner table {t.recipe}:{t.name} --scale {t.scale} --seeds {spelled(list(t.seeds))}" for t in tables)
    return section("Environment", grid([], lines, "words"), f"<p>The same again:</p><pre>{escape(again)}</pre>")
