"""The guides of families say of each recipe what it does, when to use it and what became of its claims."""

import csv
from pathlib import Path

from runner.config import recipes
from runner.report import claims, guide, scoreboard

ROOT = Path(__file__).resolve().parents[2]


def test_a_family_whose_recipes_say_when_has_a_guide():
    claim = claims.of("noise/elr")[0]
    row = {"recipe": claim.recipe, "claim": claim.say, "condition": claim.condition, "scale": claim.scale, "verdict": "held"}
    rows = [{**row, "seeds": "0-4", "effect": "24.3", "low": "18.9", "high": "29.8"}, {**row, "seeds": "7-8", "effect": "3", "low": "", "high": ""}]
    text = guide.pages(rows)["noise"]
    assert text.count("\n## ") == sum(name.startswith("noise/") for name in recipes.names())
    section = text.split("\n## [elr]")[1].split("\n## ")[0]
    assert f"{claim.say} (`{claim.that}`): **held** 24.3 [18.9, 29.8] on 0-4; **held** 3 on 7-8" in section
    assert section.count("not verified") == len(claims.of("noise/elr")) - 1
    assert "- `with=elr`: " in section
    assert "- When: the default choice" in section


def test_without_a_line_on_when_there_is_no_guide(monkeypatch):
    lines = {**recipes.read("noise/elr")}
    del lines["when"]
    read = recipes.read
    monkeypatch.setattr(recipes, "read", lambda name: lines if name == "noise/elr" else read(name))
    assert "noise" not in guide.pages([])


def test_the_pages_are_those_of_the_recipes_and_verdicts():
    """A recipe that changes needs `scripts/scoreboard.py`, or its pages say what is no longer so."""
    with (ROOT / "results" / "verdicts.csv").open(newline="") as file:
        rows = scoreboard.current(list(csv.DictReader(file)))
    assert (recipes.RECIPES / "README.md").read_text() == scoreboard.page(rows)
    for folder, text in guide.pages(rows).items():
        assert (recipes.RECIPES / folder / "README.md").read_text() == text
