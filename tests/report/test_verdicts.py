"""Claims: what their grammar takes, what is concluded from numbers, and what `runner verify` and the scoreboard say of it."""

import csv
import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest

from runner.cli import verify
from runner.config import recipes
from runner.core.errors import UserError
from runner.report import claims, scoreboard
from runner.report.verdict import Made, Verdict, decide, further, judge, spelled, weigh

TABLES = {
    "one": {"rows": {"ce": {"loss": "ce"}, "gce": {"loss": "gce"}, "sgd": {"schedule": "wsd"}}, "metric": "test/acc_last"},
    "two": {"rows": {"sgd": {"schedule": "constant"}, "swa": {"with": ["weight_averaging"]}}, "metric": "test/loss_last"},
}
SPREAD = np.array([1.0, 2.0, 3.0, 4.0, 5.0])  # mean 3, standard error sqrt(0.5)
ONE_SIDED, TWO_SIDED = 2.1318 * math.sqrt(0.5), 2.7764 * math.sqrt(0.5)  # Student's t of 4 degrees, from a printed table: to 95 % and to 97.5 %


@pytest.fixture
def recipe(monkeypatch):
    """Let recipe `r` claim something."""

    def make(*specs, tables=TABLES):
        content = {"tables": tables, "claims": [s if isinstance(s, dict) else {"say": "so it is", "that": s} for s in specs]}
        monkeypatch.setattr(recipes, "read", lambda name: content)
        return claims.of("r")

    return make


@pytest.fixture
def weighed(recipe):
    """The verdict on a condition, given one value a seed of each row."""

    def call(that, **rows):
        tables = {"t": {"rows": {row: {} for row in rows}, "metric": "m"}}
        (claim,) = recipe(that, tables=tables)
        return weigh(claim, "mini", list(range(len(next(iter(rows.values()))))), {row: np.array(values) for row, values in rows.items()})

    return call


@pytest.mark.parametrize(
    ("text", "rows", "margins"),
    [
        ("a - b >= 5", {"a": 9, "b": 3}, [1]),
        ("a - b <= 0.2", {"a": 9, "b": 3}, [-5.8]),
        ("a >= 95", {"a": 90}, [-5]),
        ("a / b > 2", {"a": 9, "b": 3}, [1]),
        ("a < (b + c) / 2 * -1", {"a": 9, "b": 3, "c": 5}, [-13]),
        ("a >= b >= c", {"a": 9, "b": 3, "c": 5}, [6, -2]),
        ("rising(a, b, c)", {"a": 9, "b": 3, "c": 5}, [-6, 2]),
        ("falling(a, b, c, by=0.5)", {"a": 9, "b": 3, "c": 5}, [5.5, -2.5]),
        ("rising(a, b, by=-0.5)", {"a": 9, "b": 3}, [-5.5]),
    ],
)
def test_margins_are_what_is_left_to_the_threshold(text, rows, margins):
    assert [part.margin(rows) for part in claims.parse(text)] == pytest.approx(margins)


@pytest.mark.parametrize(
    ("text", "effect", "threshold"), [("a - b >= 5", 6, 5), ("a >= b + 5 - 1", 6, 4), ("a <= 2 * 10", 9, 20), ("a / b >= 2", 3, 2), ("a > b", 6, 0)]
)
def test_the_effect_is_compared_with_the_threshold(text, effect, threshold):
    (part,) = claims.parse(text)
    assert (part.effect({"a": 9, "b": 3}), part.threshold) == (effect, threshold)


NO_COMPARISONS = ["", "a", "a - b", "3 >= 2", "a != b", "a >= b and b >= c", "a >", "a >= 1; b", "a := 1", "(" * 300 + "a", "max(a, b) >= 1"]
NO_TERMS = ["a >= 'b'", "a.b >= 1", "a[0] >= 1", "a ** 2 >= 1", "a >= True", "a >= 1 / 0", "__import__('os').abort() >= 1"]
NO_STEPS = ["raising(a, b)", "rising(a)", "rising(a, b, by=a)", "rising(a, b, to=1)", "rising(*a)"]


@pytest.mark.parametrize("text", [*NO_COMPARISONS, *NO_TERMS, *NO_STEPS])
def test_what_is_no_condition_is_refused(text):
    with pytest.raises(UserError):
        claims.parse(text)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("gcee - ce >= 1", "recipe r claims 'gcee - ce >= 1': no row 'gcee' at scale mini; did you mean 'gce'?"),
        ("gce - ce => 1", "recipe r claims 'gce - ce => 1': this is no condition"),
        ("rise(ce, gce)", "recipe r claims 'rise(ce, gce)': no function 'rise'; did you mean 'rising'?"),
        ("swa - ce >= 1", "recipe r claims 'swa - ce >= 1': no table has all of the rows swa, ce"),
        ({"say": "x", "that": "ce >= 1", "seed": 5}, "unknown key 'seed'; did you mean 'seeds'?"),
        ({"say": "x", "that": "ce >= 1", "seeds": 0}, "seeds=0 is not valid"),
        ({"say": "x", "that": "ce >= 1", "at": "here"}, "at='here' is not valid"),
        ({"say": "x", "that": "nope >= 1", "scale": ["mini"]}, "no row 'nope' at scale ['mini']"),
        ({"that": "ce >= 1"}, "a claim has a sentence"),
    ],
)
def test_a_mistaken_claim_is_named(recipe, spec, said):
    with pytest.raises(UserError, match=re.escape(said)):
        recipe(spec)


def test_a_claim_is_about_the_rows_of_one_table(recipe):
    first, second = recipe({"say": "x", "that": "sgd - ce >= 1", "at": {"noise.rate": 0.4}, "seeds": 2}, "sgd - swa >= 1")
    assert (first.metric, second.metric) == ("test/acc_last", "test/loss_last")
    assert first.condition == "sgd - ce >= 1 (test/acc_last, noise.rate=0.4)"
    assert first.runs("smoke", first.seeds)[1].overrides == ("+recipe=r", "scale=smoke", "schedule=wsd", "noise.rate=0.4", "seed=1")
    assert second.runs("mini", [7])[0].overrides == ("+recipe=r", "scale=mini", "schedule=constant", "seed=7")


def test_all_claims_of_the_tree_can_be_read():
    assert sum(len(claims.of(name)) for name, file in recipes.names().items() if recipes.RECIPES in file.parents) >= 50


@pytest.mark.parametrize(
    ("threshold", "word"),
    [
        (3 - ONE_SIDED - 0.001, "held"),
        (3 - ONE_SIDED + 0.001, "undecided"),
        (3.0, "undecided"),
        (3 + ONE_SIDED - 0.001, "undecided"),
        (3 + ONE_SIDED + 0.001, "refuted"),
    ],
)
def test_the_verdict_turns_where_a_bound_passes_the_threshold(weighed, threshold, word):
    base = np.array([70.0, 60.0, 75.0, 66.0, 81.0])  # paired: what the seeds have in common does not count
    found = weighed(f"a - b >= {threshold}", a=base + SPREAD, b=base)
    assert found.verdict == word
    assert (found.effect, found.low, found.high) == pytest.approx((3, 3 - TWO_SIDED, 3 + TWO_SIDED), abs=1e-4)
    assert weighed(f"b - a <= {-threshold}", a=base + SPREAD, b=base).verdict == word


def test_how_many_more_seeds_are_needed(weighed):
    # by a printed table: t(5) 2.0150 * 1.5811 / sqrt(6) = 1.30 < 1.5;  t(27) 1.7033 * 1.5811 / sqrt(28) = 0.509, t(28) 1.7011 * 1.5811 / sqrt(29) = 0.4995
    assert weighed("a >= 1.5", a=SPREAD).needed == 1
    assert weighed("a >= 2.5", a=SPREAD).needed == 24
    assert weighed("a >= 3.5", a=SPREAD).needed == 24
    assert weighed("a >= 2.999", a=SPREAD).needed is None
    assert "more than 1000" in weighed("a >= 2.999", a=SPREAD).reason
    assert weighed("a >= 1", a=SPREAD).needed is None
    assert further(SPREAD - 3) is None


def test_one_seed_decides_nothing_but_an_identity(weighed):
    found = weighed("a >= 1", a=[5.0])
    assert (found.verdict, found.effect, found.low, found.reason) == ("undecided", 5.0, None, "one seed has no interval")
    assert weighed("a == b", a=[5.0], b=[5.0]).verdict == "held"


def test_an_identity_is_of_all_bits_of_all_seeds(weighed):
    assert weighed("a == b", a=[0.1, 0.2], b=[0.1, 0.2]).verdict == "held"
    assert weighed("a == b", a=[0.1, 0.3], b=[0.1, 0.1 + 0.2]).verdict == "refuted"


def test_margins_without_variance_are_their_own_bounds(weighed):
    same = np.full(5, 0.1)
    assert weighed("a >= b", a=same, b=same).verdict == "held"
    assert weighed("a > b", a=same, b=same).verdict == "refuted"
    assert weighed("a >= 0.05", a=same).verdict == "held"
    assert weighed("a >= 0.15", a=same).verdict == "refuted"


def test_several_comparisons_share_their_risk(weighed):
    low, mid = np.zeros(5), SPREAD - 3 + 1.7  # 1.7 is beyond the bound at 95 %, 1.51, and short of that at 97.5 %, 1.96
    assert weighed("b > a", a=low, b=mid).verdict == "held"
    assert weighed("rising(a, b, c)", a=low, b=mid, c=mid + SPREAD).verdict == "undecided"
    assert weighed("rising(a, b, c)", a=low, b=SPREAD, c=2 * SPREAD).verdict == "held"
    assert weighed("falling(a, b, c, by=0.5)", a=low, b=-SPREAD, c=-2 * SPREAD).verdict == "held"
    assert weighed("rising(a, b, c)", a=low, b=SPREAD, c=low).verdict == "refuted"
    assert weighed("a <= b <= c", a=low, b=mid, c=low).verdict == "undecided"
    worst = weighed("c >= b >= a", a=low, b=SPREAD, c=20 + SPREAD[::-1])
    assert (worst.verdict, worst.effect) == ("held", 3)
    assert weighed("a == b >= c", a=mid, b=mid, c=low).verdict == "held"


def test_what_is_not_finite_is_undecided(weighed):
    found = weighed("a / b >= 1", a=[1.0, 2.0, 3.0], b=[1.0, 0.0, 0.0])
    assert (found.verdict, found.effect) == ("undecided", None)
    assert "seeds 1-2" in found.reason


def test_a_null_is_called_held_or_refuted_one_time_in_twenty_each():
    margins = np.random.default_rng(0).standard_normal((40_000, 5))
    words = decide(margins)
    assert np.mean(words == 1) == pytest.approx(0.05, abs=0.004)
    assert np.mean(words == -1) == pytest.approx(0.05, abs=0.004)
    assert np.mean(decide(margins, level=0.975) == 1) == pytest.approx(0.025, abs=0.003)
    assert list(words[:50]) == [int(decide(m)) for m in margins[:50]]


TINY = """
defaults: [{override /data: blobs}, {override /eval: [accuracy]}]
paper: {title: Tiny, uses: [data/blobs]}
tables:
  t:
    rows: {a: {}, b: {threads: 1}, bad: {optimizer.lr: 1e30}}
    metric: test/acc_last
claims:
"""
SURE = """
  - {say: an accuracy, that: "0 <= a", seeds: 2}
  - {say: equal, that: "a == a + 0", seeds: 2}
"""
DOUBTFUL = """
  - {say: too much, that: "a >= 101", seeds: 2}
  - {say: it fails, that: "bad >= 0", seeds: 2}
  - {say: rows that are one, that: "a >= b", seeds: 2}
  - {say: it does not compose, that: "a >= 0", at: {loss.nope: 1}, seeds: 2}
"""


def test_verify(runner, tmp_path):
    folder = tmp_path / "lab" / "recipe"
    folder.mkdir(parents=True)
    (folder / "sure.yaml").write_text(TINY + SURE)
    (folder / "tiny.yaml").write_text(TINY + SURE + DOUBTFUL)
    ask = lambda *arguments: runner("verify", "--config-dir", "lab", "--scale", "smoke", *arguments)

    before = ask("sure", "--no-run", "--json")
    assert [v["verdict"] for v in json.loads(before.stdout)] == ["undecided"] * 2
    assert not (tmp_path / "runs").exists()

    done = ask("sure", "tiny", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 1
    assert [(v["recipe"], v["claim"], v["verdict"]) for v in found] == [
        ("sure", "an accuracy", "held"),
        ("sure", "equal", "held"),
        ("tiny", "an accuracy", "held"),
        ("tiny", "equal", "held"),
        ("tiny", "too much", "refuted"),
        ("tiny", "it fails", "undecided"),
        ("tiny", "rows that are one", "undecided"),
        ("tiny", "it does not compose", "undecided"),
    ]
    assert set(found[0]) == {"recipe", "claim", "condition", "verdict", "effect", "low", "high", "seeds", "needed"}
    assert found[0]["seeds"] == [0, 1]
    assert found[0]["low"] <= found[0]["effect"] <= found[0]["high"]

    again = ask("tiny", "--no-run", "--seeds", "1,0-1")
    assert again.returncode == 1
    assert "verdict (one-sided)" in again.stdout
    assert "effect [95 %, two-sided]" in again.stdout
    assert "bad on 0: failed, loss is" in again.stdout
    assert "a and b are the same runs" in again.stdout
    assert "'loss.nope'" in again.stdout
    assert ask("sure").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["noise/ellr"], "no recipe 'noise/ellr'; did you mean 'noise/elr'?"),
        ([], "verify takes recipes"),
        (["--all", "noise/elr"], "verify takes recipes"),
        (["noise/elr", "--seeds", "x"], "seeds"),
        (["noise/elr", "--scale", "huge"], "invalid choice"),
        (["noise/elr", "--sedes", "0-4"], "--sedes"),
    ],
)
def test_bad_arguments_run_nothing(arguments, said, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=re.escape(said)):
        verify.main(arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_without_claims_is_said(recipe):
    assert recipe() == []
    with pytest.raises(UserError, match="has no claims"):
        verify.picked(["noise/elr"], False)
    assert judge("noise/elr") == []


def test_the_scoreboard_keeps_other_seeds_and_lists_every_recipe(recipe, monkeypatch, tmp_path):
    recipe({"say": "GCE | beats CE", "that": "gce - ce >= 5"})
    (claim,) = claims.of("noise/r")
    files = {"noise/r": recipes.RECIPES / "noise" / "r.yaml", "tour": recipes.RECIPES / "tour.yaml", "own": tmp_path / "own.yaml"}
    monkeypatch.setattr(recipes, "names", lambda: files)
    file = tmp_path / "results" / "verdicts.csv"
    verdict = Verdict(claim, "mini", [0, 1, 2, 3, 4], "undecided", 9.0, -1.0, 19.0, 5.0, 3, made=Made(12.5, "2030-01-02", "abc", "2.11"))
    scoreboard.update(file, [verdict, replace(verdict, seeds=[1000, 1001], verdict="refuted")])
    rows = scoreboard.update(file, [replace(verdict, verdict="held", low=7.25)])
    written = list(csv.DictReader(file.open()))
    assert [(r["seeds"], r["verdict"], r["low"]) for r in written] == [("0-4", "held", "7.25"), ("1000-1001", "refuted", "-1")]
    assert tuple(written[0]) == scoreboard.FIELDS

    page = scoreboard.page(rows)
    line = next(part for part in page.splitlines() if part.startswith("| [noise/r](noise/r.yaml)"))
    assert "GCE \\| beats CE: `gce - ce >= 5`" in line
    assert "**held** 9 [7.25, 19] on 0-4 | **refuted** 9 [-1, 19] on 1000-1001 | 12 | 2030-01-02 | abc" in line
    assert "a one-sided test at 95 %" in page
    assert "two-sided 95 % interval" in page
    assert page.index("[tour]") < page.index("## noise") < page.index("[noise/r]")
    assert "own.yaml" not in page

    content = recipes.read("noise/r")
    monkeypatch.setattr(recipes, "read", lambda name: {**content, "trainer": {"duration": "3ep"}})
    assert scoreboard.update(file, []) == []  # the verdicts are of another set-up
    assert len(list(csv.DictReader(file.open()))) == 2


def test_seeds_are_spelled_in_spans():
    assert spelled([0, 1, 2, 3, 4, 10]) == "0-4,10"
    assert spelled([7]) == "7"
