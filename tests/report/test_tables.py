"""Tables of recipes: which row is best, against tests worked out by hand; every format, plot and page, from records with known numbers."""

import csv
import hashlib
import io
import json
import math
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from rich.console import Console

from runner.cli import report as report_command
from runner.cli import table as table_command
from runner.config import recipes
from runner.core.errors import UserError
from runner.report import cells, formats, plots
from runner.report.table import Entry, Table, best, collect, direction, holm, marked


def test_holm_of_three():
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])  # 0.01 * 3, 0.03 * 2, then no smaller than before
    assert holm([0.9, 0.8]) == [1.0, 1.0]


# three differences d - 1, d, d + 1: t = d * sqrt(3) with two degrees of freedom, p = 1 - t / sqrt(t^2 + 2), which is 0.0408 for d = 4.8 / sqrt(3)
ABOVE = {seed: 50 + 10 * seed + 4.8 / math.sqrt(3) + step for seed, step in enumerate((-1, 0, 1))}
BASE = {seed: 50.0 + 10 * seed for seed in range(3)}


@pytest.mark.parametrize(
    ("column", "better", "expected"),
    [
        ({"base": BASE, "above": ABOVE}, "max", "above"),
        ({"base": BASE, "above": ABOVE}, "min", "base"),
        ({"base": BASE, "above": ABOVE}, None, None),
        ({"base": BASE, "twin": BASE, "above": ABOVE}, "max", None),  # two comparisons: 2 * 0.0408
        ({"base": BASE, "above": {k: v - 1 for k, v in ABOVE.items()}}, "max", None),  # t = 3.07, p = 0.092
        ({"base": BASE, "above": ABOVE, "empty": {}}, "max", None),
        ({"base": {0: 50.0}, "above": {0: 90.0}}, "max", None),
        ({"base": BASE, "above": {k + 5: v for k, v in ABOVE.items()}}, "max", None),  # no seed in common
        ({"base": {0: 97.5, 1: 98.5}, "above": {0: 98.0, 1: 99.0}}, "max", None),  # two equal differences say nothing of their spread
        ({"above": ABOVE}, "max", None),
    ],
    ids=["max", "min", "unknown", "holm", "weak", "hole", "one seed", "no pairs", "no spread", "alone"],
)
def test_the_best_row_is_best_beyond_doubt(column, better, expected):
    assert best(column, better) == expected


@pytest.mark.parametrize(("values", "places"), [([98.61, 5.1], 2), ([0.3472], 3), ([0.0347, 0.001], 4), ([4321.0], 0), ([100.0], 2), ([math.nan], 2), ([], 2)])
def test_decimals(values, places):
    assert formats.decimals(values) == places


def test_lists_multiply_and_a_single_value_is_the_same_for_all():
    spec = {"data": "iris", "noise.rate": [0.2, 0.4]}
    assert cells.axis(spec) == {"0.2": ("data=iris", "noise.rate=0.2"), "0.4": ("data=iris", "noise.rate=0.4")}
    assert cells.axis({"noise": "pair", "noise.rate": 0.4}) == {"": ("noise=pair", "noise.rate=0.4")}
    assert cells.axis({"ce": {"with": []}, "a": [1, 2]}) == {"ce, 1": ("with=[]", "a=1"), "ce, 2": ("with=[]", "a=2")}
    assert cells.axis({"ce": {"with": []}, "a": 1}) == {"ce": ("a=1", "with=[]")}
    assert cells.axis(None) == {"": ()}


def made(found, cols=("0.0", "0.4"), key="noise.rate", seeds=(0, 1, 2), **about) -> Table:
    """A table of hand-made values: row -> a dict seed -> value for each column."""
    entries = {(row, col): Entry(values, {s: f"run{s}" for s in seeds}) for row, line in found.items() for col, values in zip(cols, line, strict=True)}
    return Table("lab/demo", "t1", "mini", "test/acc_last", key, tuple(found), cols, seeds, marked(entries, "max"), "max", **about)


@pytest.fixture
def table() -> Table:
    found = made({"a_b|50%": [BASE, ABOVE], "plain": [ABOVE, BASE], "short": [{0: 7.0}, {}]}, source="a paper & its code, table 1", source_scale="paper")
    found.cells["plain", "0.4"] = Entry(BASE, {}, published=61.5, best=True)
    return found


def test_markdown(table):
    title, grid, notes = formats.markdown(table).split("\n\n")
    assert title == "**lab/demo:t1, test/acc_last, scale mini**"
    half, more = (4.302653 * s / math.sqrt(3) for s in (10, 11))  # t quantile of two degrees of freedom, standard deviations
    assert grid.splitlines() == [
        "| noise.rate | 0.0 | 0.4 |",
        "| --- | ---: | ---: |",
        f"| a_b\\|50% | 60.00 ± {half:.2f} | 62.77 ± {more:.2f} |",
        f"| plain | 62.77 ± {more:.2f} | **60.00 ± {half:.2f}** (61.5) |",
        "| short | 7.00 n=1 | – |",
    ]
    assert "over 3 seeds; n= where there are fewer" in notes
    assert "Holm" in notes
    assert "published at scale paper, while this is scale mini; a paper & its code, table 1" in notes


def test_latex(table):
    text = formats.latex(table)
    assert r"a\_b|50\% & 60.00 $\pm$ 24.84" in text
    assert "plain & 62.77 $\\pm$ 27.33 & \\textbf{60.00 $\\pm$ 24.84} \\\\\n &  & (61.5) \\\\\n" in text
    assert r"a paper \& its code" in text
    body = re.search(r"\\midrule\n(.*)\\bottomrule", text, re.DOTALL)[1]
    assert [line.count(" & ") for line in body.splitlines()] == [2, 2, 2, 2]
    unescaped = re.sub(r"\\[&%$#_{}]|^%.*", "", text, flags=re.MULTILINE)
    assert "%" not in unescaped
    assert "_" not in unescaped
    assert text.isascii()


def test_csv_and_json(table):
    lines = list(csv.DictReader(io.StringIO(formats.long(table))))
    assert list(lines[1].items()) == [
        ("recipe", "lab/demo"), ("table", "t1"), ("scale", "mini"), ("metric", "test/acc_last"), ("row", "a_b|50%"), ("col", "0.0"),
        ("seed", "1"), ("value", "60.0"), ("run", "run1"),
    ]  # fmt: skip
    assert [line["value"] for line in lines if line["row"] == "short"] == ["7.0", "", "", "", "", ""]
    whole = json.loads(formats.whole(table))
    cell = {(c["row"], c["col"]): c for c in whole["cells"]}
    assert (cell["plain", "0.4"]["mean"], cell["plain", "0.4"]["published"], cell["plain", "0.4"]["best"]) == (60.0, 61.5, True)
    assert cell["short", "0.0"]["low"] is None
    assert cell["short", "0.4"]["n"] == 0
    assert whole["better"] == "max"
    table.cells["short", "0.0"] = Entry({0: math.nan}, {0: "run0"})
    assert "NaN" not in formats.whole(table), "which is no JSON"


def test_rich_shows_every_cell(table):
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(formats.rich(replace(table, extra=("eval=[loss]",))))
    text = console.export_text()
    for part in ("eval=[loss]", "a_b|50%", "60.00 ± 24.84", "(61.5)", "n=1", "–", "Mean ± half-width"):
        assert part in text


SEVENTEEN = {f"method {k}": [{0: 50.0 + k, 1: 51.0 + k}, {0: 40.0 - k, 1: 42.0 - k}] for k in range(17)}


def test_numbers_are_curves_that_can_be_told_apart():
    figure = plots.of_table(made(SEVENTEEN, seeds=(0, 1)))
    (axes,) = figure.axes
    assert list(axes.lines[3].get_xdata()) == [0.0, 0.4]
    assert list(axes.lines[3].get_ydata()) == [53.5, 38.0]
    looks = {(line.get_color(), line.get_linestyle()) for line in axes.lines}
    assert len(looks) == 17
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [f"method {k}" for k in range(17)]  # as the lines end, from top to bottom
    figure.draw_without_rendering()
    assert legend.get_window_extent().x0 >= axes.get_window_extent().x1
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("noise.rate", "test/acc_last")


def test_names_are_bars():
    several = plots.of_table(made({"a": [BASE, ABOVE], "b": [ABOVE, BASE]}, cols=("digits", "chars"), key="data")).axes[0]
    assert [bar.get_height() for bar in several.patches] == pytest.approx([60, 62.771, 62.771, 60], abs=1e-3)
    single = plots.of_table(made({"a": [BASE], "b": [ABOVE]}, cols=("",), key="")).axes[0]
    assert [bar.get_width() for bar in single.patches] == pytest.approx([60, 62.771], abs=1e-3)
    assert single.get_xlabel() == "test/acc_last"


def test_plots_are_files_with_text(tmp_path):
    figure = plots.of_table(made(SEVENTEEN, seeds=(0, 1)))
    plots.save(figure, tmp_path / "a.svg")
    texts = [e.text for e in ElementTree.parse(tmp_path / "a.svg").iter("{http://www.w3.org/2000/svg}text")]
    assert {"noise.rate", "method 16"} <= set(texts)
    plots.save(figure, tmp_path / "a.png")
    width = int.from_bytes((tmp_path / "a.png").read_bytes()[16:20], "big")
    assert width == 200 * figure.get_size_inches()[0]


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """Write finished records with known accuracies: `recorded(recipe, scale, seeds, value(cell))`; a cell without a value has no record."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RUNNER_STORE", raising=False)

    def write(recipe, scale, seeds, value):
        wanted = cells.of_table(recipe, cells.table(recipe)[1], scale, seeds)
        plan = cells.plan(wanted)
        codes = {job.id: job.code for job in plan.jobs}
        for cell, run in zip(wanted, plan.asked, strict=True):
            if (accuracy := value(cell)) is None:
                continue
            folder = tmp_path / "runs" / run
            folder.mkdir(parents=True, exist_ok=True)
            rows = "".join(json.dumps({"step": step, "test/acc": accuracy - 20 / step}) + "\n" for step in (5, 10))
            (folder / "metrics.jsonl").write_text(rows)
            (folder / "environment.json").write_text(json.dumps({"code": codes[run], "torch": "9.9.9", "machine": "abacus"}))
            digest = hashlib.sha256(rows.encode()).hexdigest()[:16]
            (folder / "done.json").write_text(json.dumps({"summary": {"test/acc_last": accuracy}, "seconds": 60.0, "metrics": digest}))
        return wanted, plan

    return write


def accuracy(cell: cells.Cell) -> float | None:
    """ELR is 10 above cross entropy, give or take some hundredths; nothing was run at 80 %."""
    return None if cell.col == "0.8" else 90 - 50 * float(cell.col) + cell.seed + (10 + 0.01 * cell.seed**2) * (cell.row == "elr")


def test_a_table_of_the_store(recorded, capsys, tmp_path):
    recorded("noise/elr", "smoke", [0, 1, 2], accuracy)
    status = table_command.main(["noise/elr", "--scale", "smoke", "--seeds", "0-2", "--no-run", "--format", "md", "--plot", "a.png"])
    said = capsys.readouterr()
    assert status == 0
    lines = {line.split(" | ")[0].strip("| "): line.split(" | ")[1:] for line in said.out.splitlines() if line.startswith("|")}
    assert lines["noise.rate"] == ["0.2", "0.4", "0.6", "0.8 |"]
    assert [c.partition(" ±")[0] for c in lines["ce"]] == ["81.00", "71.00", "61.00", "– |"]
    assert [c.partition(" ±")[0] for c in lines["elr"]] == ["**91.02", "**81.02", "**71.02", "– |"]
    assert "48 jobs: 36 done, 12 missing" in said.err
    assert "runner table noise/elr --scale smoke --seeds 0-2 --format md --plot a.png" in said.err
    assert len(said.err.splitlines()) == 1
    assert (tmp_path / "a.png").stat().st_size > 10_000
    assert len(list((tmp_path / "runs").iterdir())) == 36


def test_a_scale_has_tables_of_its_own(monkeypatch):
    t = {"rows": {"deep": {}, "flat": {"model.depth": 1}}, "cols": {"model.depth": [2, 3]}, "seeds": 1, "metric": "test/acc_last"}
    own = {"t": {"cols": {"model.width": [64]}, "seeds": 2}, "u": None}
    content = {"tables": {"t": t, "u": {"rows": {"optimizer.lr": [0.1]}}}, "scales": {"paper": {"tables": own}}}
    monkeypatch.setattr(recipes, "read", lambda name: content)
    assert cells.table("r", None, "mini") == ("t", t)
    assert cells.table("r", "t", "paper") == ("t", {**t, **own["t"]})
    assert list(cells.tables("r", "paper")) == ["t"]
    with pytest.raises(UserError, match=r"^recipe r has no table 'u' at scale paper; known: t$"):
        cells.table("r", "u", "paper")
    monkeypatch.setitem(content["scales"], "smoke", {"tables": 3})
    with pytest.raises(UserError, match=r"^recipe r, scale smoke: tables=3 is not valid"):
        cells.tables("r", "smoke")
    for wrong in ({"v": {}}, {"t": {"colz": {}}}, {"t": 5}):
        monkeypatch.setitem(content["scales"], "smoke", {"tables": wrong})
        with pytest.raises(UserError, match=r"^recipe r, scale smoke: (no table 'v'|table t takes cols, metric, published, rows, seeds, or null)"):
            cells.tables("r", "smoke")
    asked = cells.of_table("r", cells.table("r", "t", "paper")[1], "paper")
    assert [(c.row, c.col, c.seed) for c in asked] == [(row, "64", seed) for row in ("deep", "flat") for seed in (0, 1)]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"rows": {"ce": {}}}, "recipe r, table t has no metric"),
        ({"rows": ["ce", "gce"], "metric": "test/acc_last"}, "recipe r, table t: rows=['ce', 'gce'] is not valid; it takes named overrides"),
        ({"cols": {"seed": []}, "metric": "test/acc_last"}, "cols={'seed': []} is not valid"),
        ({"row": {"ce": {}}, "metric": "test/acc_last"}, "recipe r, table t: unknown key 'row'; did you mean 'rows'?"),
        ({"metric": ["test/acc_last"]}, "metric=['test/acc_last'] is not valid"),
        ({"metric": "test/acc_last", "seeds": "0-4"}, "seeds='0-4' is not valid; it takes a number of seeds"),
        ({"metric": "test/acc_last", "published": {"values": {"ce": 1}}}, "it takes a source"),
        ({"metric": "test/acc_last", "published": {"source": "x", "values": {"ce": "94.1 ± 0.2"}}}, "published holds '94.1 ± 0.2'; it takes numbers"),
        (None, "recipe r, table t is None"),
    ],
)
def test_what_is_no_table_is_said_before_anything_runs(monkeypatch, spec, said):
    monkeypatch.setattr(recipes, "read", lambda name: {"tables": {"t": spec}})
    with pytest.raises(UserError) as error:
        cells.table("r")
    assert said in str(error.value)


def test_what_a_row_sets_wins_over_its_column():
    spec = {"rows": {"clean": {"noise.rate": 0.0}, "noisy": {}}, "cols": {"noise.rate": [0.2, 0.4]}}
    plan = cells.plan(cells.of_table("noise/elr", spec, "smoke", [0]))
    rates = {job.id: job.config.one("noise").args["rate"] for job in plan.jobs}
    assert [rates[run] for run in plan.asked] == [0.0, 0.0, 0.2, 0.4]


def test_a_key_that_sets_rows_or_columns_apart_names_them():
    assert cells.naming({"slow": {"optimizer.lr": 0.1}, "fast": {}}) == {"optimizer.lr"}
    assert cells.naming({"ce": {"with": [], "model.width": 8}, "elr": {"with": ["elr"], "model.width": 8}, "seed": 3}) == {"with"}
    assert cells.naming({"gce": {"loss": "gce"}, "data": "iris"}) == {"loss"}
    assert cells.naming({"noise.rate": [0.4], "model.width": [8, 16]}) == {"noise.rate", "model.width"}
    assert cells.naming(None) == set()


def test_a_metric_may_be_the_mean_of_the_last_measurements(recorded):
    wanted, plan = recorded("noise/elr", "smoke", [0], lambda cell: 50.0)  # 46 at step 5, 48 at step 10
    for metric, value in {"test/acc_last": 50.0, "test/acc_last1": 48.0, "test/acc_last2": 47.0}.items():
        assert set(map(tuple, map(dict.values, cells.values(wanted, plan, metric).values()))) == {(value,)}
    for metric in ("test/acc_last3", "test/acc_last0", "test/acc_lastly", "test/loss_last2", "test/acc_mean"):
        assert not any(cells.values(wanted, plan, metric).values())


def test_published_values_stand_beside_ours(recorded):
    wanted, plan = recorded("noisy_labels", "smoke", [0], lambda cell: 50.0)
    found = collect("noisy_labels", "methods", "smoke", wanted, plan)
    assert {at: entry.published for at, entry in found.cells.items() if entry.published is not None} == {
        ("elr", "0.2"): 91.12, ("elr", "0.4"): 91.43, ("elr", "0.6"): 88.87, ("elr", "0.8"): 80.69,
    }  # fmt: skip
    assert (found.key, found.better, found.source_scale) == ("noise.rate", "max", "paper")
    assert "shengliu66/ELR" in formats.notes(found)[-1]


def test_the_evaluator_says_which_way_is_better(recorded):
    _, plan = recorded("noise/elr", "smoke", [0], lambda cell: None)
    config = plan.jobs[0].config
    ways = {metric: direction(metric, config) for metric in ("test/acc_last", "train/memorised_best", "test/loss_last", "train/unheard_last")}
    assert ways == {"test/acc_last": "max", "train/memorised_best": "min", "test/loss_last": "min", "train/unheard_last": None}


def test_learning_curves_are_means_over_seeds(recorded):
    wanted, plan = recorded("noise/elr", "smoke", [0, 1, 2], accuracy)
    found = collect("noise/elr", "t1", "smoke", wanted, plan)
    line = plots.learning(found, plan.store).axes[0].lines[0]
    assert list(line.get_xdata()) == [5, 10]
    assert list(line.get_ydata()) == pytest.approx([81 - 4, 81 - 2])


def test_a_report_is_one_page_that_loads_nothing(recorded, capsys, tmp_path):
    recorded("noise/elr", "smoke", [0, 1, 2], accuracy)
    assert report_command.main(["noise/elr", "--scale", "smoke", "--seeds", "0-2", "--no-run"]) == 0
    assert capsys.readouterr().out == "noise-elr-smoke.html\n"
    text = (tmp_path / "noise-elr-smoke.html").read_text()
    assert 'href="https://arxiv.org/abs/2007.00151"' in text
    assert "<strong>91.02" in text
    assert text.count("<svg") == 2
    assert "36, 36.0 min of training" in text
    assert "abacus" in text
    assert "runner table noise/elr:t1 --scale smoke --seeds 0-2" in text
    assert "undecided: elr on 0-2, ce on 0-2: missing" in text  # the claim is made at another scale
    assert not re.search(r"<(script|link|img|iframe)\b|@import|url\((?!#)|src=", text)
    ElementTree.fromstring(re.search(r"<svg.*?</svg>", text, re.DOTALL)[0])


@pytest.mark.parametrize(
    ("command", "arguments", "said"),
    [
        (table_command, ["noisy_label"], "did you mean 'noisy_labels'?"),
        (table_command, ["noisy_labels:method"], "did you mean 'methods'?"),
        (table_command, ["noisy_labels", "--scale", "smal"], "no scale 'smal'; known: mini, paper, smoke"),
        (table_command, ["noisy_labels", "--seeds", "x"], "--seeds"),
        (table_command, ["noisy_labels", "seed=3"], "--seeds"),
        (table_command, ["noisy_labels", "scale=smoke"], "--scale"),
        (table_command, ["noise/elr", "noise.rate=0.3"], "the table's cols are named by what they set there"),
        (table_command, ["noise/elr", "++noise.rate=0.3"], "the table's cols are named by what they set there"),
        (table_command, ["noise/elr", "loss=mae"], "the table's rows are named by what they set there"),
        (table_command, ["noise/mixup", "with.mixup.alpha=1"], "the table's rows are named by what they set there"),
        (table_command, ["noisy_labels", "model.widht=3"], "did you mean 'width'?"),
        (table_command, ["noisy_labels", "--plot", "a.jpeg"], ".png, .svg, .pdf"),
        (table_command, ["noisy_labels", "--plot", "nowhere/a.png"], "there is no folder nowhere"),
        (table_command, ["noisy_labels", "--format", "word"], "--format"),
        (report_command, ["noisy_label"], "did you mean 'noisy_labels'?"),
        (report_command, ["noise/elr", "--scale", "smoke", "--no-run"], "nothing to show"),
        (report_command, ["noise/elr", "--out", "nowhere/a.html"], "there is no folder nowhere"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_bad_input_is_one_line_and_nothing_is_written(command, arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        command.main(arguments)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_is_run_once(runner):
    call = ["table", "sparsity/magnitude:dense", "--scale", "smoke", "--seeds", "0", "--format", "csv"]
    first = runner(*call)
    assert first.returncode == 0, first.stderr
    assert "[2/2]" in first.stderr
    values = [float(line["value"]) for line in csv.DictReader(io.StringIO(first.stdout))]
    assert all(0 <= value <= 100 for value in values)
    assert len(values) == 2
    again = runner(*call)
    assert (again.stdout, again.stderr) == (first.stdout, "")
