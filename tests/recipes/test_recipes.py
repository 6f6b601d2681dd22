"""Every recipe runs at smoke, says what it is, and claims only what its tables can show."""

import pytest

from runner.config import compose, recipes, registry
from runner.config.bind import bind
from runner.core.errors import UserError
from runner.execution.assemble import assemble
from runner.report import cells, claims

NAMES = sorted(name for name, file in recipes.names().items() if recipes.RECIPES in file.parents)


@pytest.fixture(scope="module")
def composed():
    with compose.composer() as call:
        yield lambda *overrides: bind(call(compose.rewrite(list(overrides))))


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_at_smoke(composed, name):
    rows = []
    try:
        loop = assemble(composed(f"+recipe={name}", "scale=smoke", "device=cpu"), rows.append)
    except UserError as error:
        if "looked" in str(error):
            pytest.skip(str(error))
        raise
    summary = loop.run()
    assert rows
    assert any(key.startswith("test/") for key in summary)


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_it_is(name):
    recipe = recipes.read(name)
    assert recipe["paper"]["title"]
    assert recipe["paper"]["uses"]
    for used in recipe["paper"]["uses"]:
        group, _, option = used.partition("/")
        assert option in registry.options(group), used
    assert set(recipe) <= {*recipes.ABOUT, *registry.GROUPS, "defaults", "seed", "threads"}
    assert set(recipe.get("scales") or {}) <= {"smoke", "mini", "paper"}


@pytest.mark.parametrize("name", NAMES)
def test_published_values_have_a_source(name):
    for table in (recipes.read(name).get("tables") or {}).values():
        published = table.get("published") or {}
        values = [v for row in (published.get("values") or {}).values() for v in (row.values() if isinstance(row, dict) else [row]) if v is not None]
        assert not values or published.get("source")


@pytest.mark.parametrize("name", NAMES)
def test_claims_are_about_rows_of_the_tables(name):
    for spec, claim in zip(recipes.read(name).get("claims") or [], claims.of(name), strict=True):
        assert {"say", "that", "scale", "seeds"} <= set(spec), spec
        assert claim.rows


@pytest.mark.parametrize("name", NAMES)
def test_rows_and_columns_of_the_tables_compose(composed, name):
    cross = {}  # of every table its first row and its first column
    for scale in {"mini", *(recipes.read(name).get("scales") or {})} - {"smoke"}:
        for spec in cells.tables(name, scale).values():
            found = cells.of_table(name, spec, scale, [0])
            cross.update({cell.overrides: None for cell in found if cell.row == found[0].row or cell.col == found[0].col})
    for overrides in cross:
        composed(*overrides)


@pytest.mark.parametrize("name", NAMES)
def test_what_a_scale_puts_into_a_table_is_another(name):
    known = recipes.read(name).get("tables") or {}
    for scale in (recipes.read(name).get("scales") or {}).values():
        for table, spec in ((scale or {}).get("tables") or {}).items():
            assert spec is None or spec
            assert all(known[table].get(key) != value for key, value in (spec or {}).items())
