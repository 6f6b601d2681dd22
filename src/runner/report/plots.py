"""Plots of tables and of learning curves, for paper and screen; colours for colour-blind readers, and markers and line styles beside them."""

import io
import math
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from runner.execution.store import Store
from runner.report.formats import digits
from runner.report.statistics import Interval, interval
from runner.report.table import Table

INK = "#222222"  # text, axes, and the palette's black: what a dark page shows light
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", INK, "#999999")  # Okabe and Ito; grey for their yellow, which white paper swallows
DASHES = ("-", "--", ":", "-.")
MARKERS = "osD^vPX<>phd*8"
HATCHES = ("", "////", "....", "xxxx")
STYLE = {
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True, "grid.alpha": 0.25, "grid.linewidth": 0.6,
    "svg.fonttype": "none", "svg.hashsalt": "runner", "hatch.linewidth": 0.5, "axes.titlesize": 10, "legend.frameon": False,
    "figure.constrained_layout.use": True,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "axes.titlecolor"), INK),
}  # fmt: skip


def of_table(table: Table) -> Figure:
    """Curves where the columns are numbers, else bars."""
    places = numbers(table.cols)
    if places is None:
        return bars(table)
    lines = {row: [(x, table.cells[row, col].interval) for x, col in zip(places, table.cols, strict=True)] for row in table.rows}
    figure = curves(table.title, table.key, table.metric, lines)
    figure.axes[0].set_xticks(places, table.cols)
    return figure


def numbers(labels: tuple[str, ...]) -> list[float] | None:
    """The values of several labels; None if there is but one, or one is no number."""
    try:
        return [float(label) for label in labels] if len(labels) > 1 else None
    except ValueError:
        return None


def curves(title: str, xlabel: str, ylabel: str, lines: dict[str, list[tuple[float, Interval]]]) -> Figure:
    """A line of means with a band of intervals for each name; what is not a number leaves a gap. The legend has the order of the lines' ends."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.5, max(4.0, 0.25 * len(lines) + 0.6)))
        axes = figure.subplots()
        faint = 0.18 if len(lines) <= 8 else 0.07  # many bands must not hide the lines
        for k, (name, points) in enumerate(lines.items()):
            x, means = [p for p, _ in points], [found.mean for _, found in points]
            look = {"color": COLOURS[k % len(COLOURS)], "linestyle": DASHES[k // len(COLOURS) % len(DASHES)], "marker": MARKERS[k % len(MARKERS)]}
            axes.plot(x, means, label=name, linewidth=1.6, markersize=4.5, markevery=max(1, len(x) // 8), **look)
            axes.fill_between(x, [f.low for _, f in points], [f.high for _, f in points], color=look["color"], alpha=faint, linewidth=0)
        axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
        _frame(axes, [found.mean for points in lines.values() for _, found in points])
        ends = [(points[-1][1].mean if points else float("-inf")) for points in lines.values()]
        _legend(figure, axes, sorted(range(len(lines)), key=lambda k: ends[k], reverse=True))
    return figure


def _frame(axes, means: list[float]) -> None:
    """Let wide intervals of few seeds run out of the picture rather than flatten the lines."""
    known = [m for m in means if math.isfinite(m)]
    room = 0.5 * (max(known) - min(known)) if known else 0.0
    if room:
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, min(known) - room), min(high, max(known) + room))


def learning(table: Table, store: Store) -> Figure:
    """How the table's metric went in its first column, at every step at which all seeds of a row were measured."""
    name, lines = table.metric.rpartition("_")[0], {}
    for row in table.rows:
        entry = table.cells[row, table.cols[0]]
        measured: dict[int, list[float]] = {}
        for seed in entry.values:
            for line in store.rows(entry.runs[seed]):
                if line.get(name) is not None:
                    measured.setdefault(line["step"], []).append(line[name])
        lines[row] = [(step, interval(values)) for step, values in sorted(measured.items()) if len(values) == len(entry.values)]
    return curves("", "step", name, lines)


def bars(table: Table) -> Figure:
    """Bars with the ends of the intervals: side by side for several columns; for one, a line a row with its value."""
    with matplotlib.rc_context(STYLE):
        return _grouped(table) if len(table.cols) > 1 else _ranked(table)


def _grouped(table: Table) -> Figure:
    wide = 0.8 / len(table.rows)
    figure = Figure(figsize=(max(7.5, 1.5 + 0.16 * len(table.rows) * len(table.cols)), max(4.0, 0.25 * len(table.rows) + 0.6)))
    axes = figure.subplots()
    for k, row in enumerate(table.rows):
        found = [table.cells[row, col].interval for col in table.cols]
        x = [n + (k - (len(table.rows) - 1) / 2) * wide for n in range(len(table.cols))]
        look = {"color": COLOURS[k % len(COLOURS)], "hatch": HATCHES[k // len(COLOURS) % len(HATCHES)], "edgecolor": "white", "linewidth": 0.3}
        axes.bar(x, [f.mean for f in found], wide, label=row, yerr=[f.half for f in found], error_kw={"elinewidth": 1, "ecolor": INK}, **look)
    axes.set_xticks(range(len(table.cols)), table.cols)
    axes.grid(False, axis="x")
    axes.set(title=table.title, xlabel=table.key, ylabel=table.metric)
    _legend(figure, axes, range(len(table.rows)))
    return figure


def _ranked(table: Table) -> Figure:
    (col,) = table.cols
    found = [table.cells[row, col].interval for row in table.rows]
    figure = Figure(figsize=(7.5, 0.32 * len(table.rows) + 1.2))
    axes = figure.subplots()
    drawn = axes.barh(table.rows, [f.mean for f in found], 0.7, xerr=[f.half for f in found], color=COLOURS[0], error_kw={"elinewidth": 1.2, "ecolor": INK})
    axes.bar_label(drawn, [f"{f.mean:.{digits(table)}f}" if f.n else "" for f in found], padding=4)
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.margins(x=0.12)
    axes.set(title=table.title, xlabel=", ".join(filter(None, [table.metric, col])))
    return figure


def _legend(figure: Figure, axes, order) -> None:
    """Outside, so that it covers no data."""
    handles, names = axes.get_legend_handles_labels()
    figure.legend([handles[k] for k in order], [names[k] for k in order], loc="outside right upper", handlelength=3)


def save(figure: Figure, file: Path | str) -> None:
    """Write PNG (200 dpi), SVG (text as text) or PDF, as the name ends."""
    with matplotlib.rc_context(STYLE):
        figure.savefig(file, dpi=200, metadata={"Date": None} if Path(file).suffix == ".svg" else None)


def svg(figure: Figure) -> str:
    """An `<svg>` element for a page, its ink in the page's own text colour."""
    stream = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    text = stream.getvalue()
    return text[text.index("<svg") :].replace(INK, "currentColor")
