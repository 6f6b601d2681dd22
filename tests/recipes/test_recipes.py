"""Every recipe runs at smoke, says what it is, and claims only what its tables can show."""

import pytest

from runner.config import compose, recipes, registry
from runner.config.bind import bind
from runner.core.errors import UserError
from runner.execution.assemble import assemble
from runner.report import claims

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
def test_rows_of_the_tables_compose(composed, name):
    for table in (recipes.read(name).get("tables") or {}).values():
        for row in (table.get("rows") or {}).values():
            if isinstance(row, dict):
                composed(f"+recipe={name}", *(f"{k}={'[' + ','.join(v) + ']' if isinstance(v, list) else 'null' if v is None else v}" for k, v in row.items()))
