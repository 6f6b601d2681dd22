"""Hydra's grammar over components and recipes."""

import shlex

import pytest

from runner.config import compose, recipes, registry
from runner.config.bind import bind
from runner.core.errors import UserError

SCALES = ("smoke", "mini", "paper")


@pytest.fixture(scope="module")
def composed():
    with compose.composer() as call:
        yield lambda *overrides: bind(call(compose.rewrite(list(overrides))))


def test_the_root_is_the_defaults_of_the_signatures(composed):
    for choice in composed().choices:
        known = choice.schema
        assert dict(choice.args) == known.bind(known.defaults())


def test_options_and_values(composed):
    config = composed("noise=symmetric", "noise.rate=0.2", "with=[elr]", "with.elr.lam=7", "seed=4")
    assert config.one("noise").args["rate"] == 0.2
    assert config["with"][0].args["lam"] == 7.0
    assert config.settings["seed"] == 4


def test_shorthands(composed):
    assert [c.option for c in composed("with+=elr")["with"]] == ["elr"]
    assert composed("recipe=noisy_labels", "with-=elr")["with"] == ()
    config = composed("noise=[symmetric,none]", "noise.rate=0.1")
    assert [c.key for c in config["noise"]] == ["noise", "noise.none"]
    assert [c.key for c in composed("noise=symmetric", "noise+=none")["noise"]] == ["noise", "noise.none"]


def test_interpolation_between_groups(composed):
    config = composed("noise=symmetric", "noise.rate=0.3", "model.dropout=${noise.rate}")
    assert config.one("model").args["dropout"] == 0.3


@pytest.mark.parametrize("name", sorted(recipes.names()))
@pytest.mark.parametrize("scale", SCALES)
def test_every_recipe_composes_at_every_scale(composed, name, scale):
    config = composed(f"+recipe={name}", f"scale={scale}")
    assert config.settings["scale"] == scale


def test_values_of_a_recipe_go_with_its_option(composed):
    assert composed("+recipe=noise/co_teaching").one("learner").option == "co_teaching"
    assert composed("+recipe=noise/co_teaching", "learner=supervised").one("learner").args == {}
    assert composed("+recipe=noisy_labels", "noise=pair", "noise.rate=0.1").one("noise").args["rate"] == 0.1
    assert composed("+recipe=noise/mixup", "with=[elr]")["with"][0].args["lam"] == 3.0
    with pytest.raises(UserError, match=r"unknown key 'learner\.forget'"):
        composed("+recipe=noise/co_teaching", "learner=supervised", "+learner.forget=0.1")


def test_values_of_an_option_go_where_a_scale_replaces_it(composed):
    assert composed("+recipe=noise/adawac").one("data").args["empty"] == 0.5
    paper = composed("+recipe=noise/adawac", "scale=paper").one("data")
    assert (paper.option, paper.args["classes"]) == ("slices", 9)
    back = composed("+recipe=noise/weakstil", "scale=paper", "data=bags").one("data")
    assert (back.args["bags"], back.args["label"]) == (300, "share")
    recipe = "+recipe=noise/supervision_quality_reasoning"
    assert [c.option for c in composed(recipe, "scale=paper")["eval"]] == ["boxed"]
    assert {c.option: c.args for c in composed(recipe)["eval"]}["answers"]["among"] == 5


def test_scale_lies_over_the_recipe(composed):
    assert composed("+recipe=noisy_labels", "scale=smoke").one("trainer").args["duration"] == "2ep"
    assert composed("+recipe=noisy_labels", "scale=smoke", "trainer.duration=3it").one("trainer").args["duration"] == "3it"


@pytest.mark.parametrize("spelled", ["[paper]", " paper", "'paper'", "['paper']"])
def test_a_scale_is_the_same_however_hydra_lets_one_spell_it(composed, spelled):
    assert composed("+recipe=noisy_labels", f"scale={spelled}") == composed("+recipe=noisy_labels", "scale=paper")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["loss=gcee"], "no option 'gcee' in group 'loss'"), (["model.widht=1"], "unknown key 'model.widht'; did you mean 'width'?"),
        (["+model.widht=1"], "unknown key 'model.widht'; did you mean 'width'?"), (["++model.widht=1"], "did you mean 'width'?"),
        (["+typo=1"], "unknown key 'typo'"), (["+recipe=noisy_label"], "did you mean 'noisy_labels'?"), (["noise.rate=0.1"], "'none' has no keys"),
        (["with.elr.lam=1"], "'with.elr' is not chosen; add it with 'with+=elr'"), (["loss=null"], "must be a string"), (["data="], "chooses nothing"),
        (["a=[1"], "cannot read 'a=[1'"), (["los=ce"], "did you mean 'loss'?"), (["with=[elr,nope]"], "no option 'nope' in group 'with'"),
        (["model.width=${nope.x}"], "nope"), (["~loss"], "group"), (["scale=huge"], "no option 'huge' in group 'scale'"),
        (["noise={name:symmetric,rate:0.3}"], "noise=OPTION noise.rate=VALUE"), (["kernels=triton"], "such as kernels.backend=triton"),
        (["+recipe=elr"], "did you mean 'noise/elr'?"), (["loss=[ce,gce]"], "loss takes one option, not [ce,gce]"),
        (["with=[elr,[mixup]]"], "holds their names alone"), (["eval=[accuracy,5]"], "holds their names alone"), (["loss=[null]"], "their names alone"),
    ],
)  # fmt: skip
def test_refusals_are_one_line_with_the_nearest_name(composed, overrides, said):
    with pytest.raises(UserError) as caught:
        composed(*overrides).one("loss")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["~/x.csv", "/tmp/a&b.csv", "/tmp/a(1).csv", "a b#c", "it's"])
def test_a_path_that_must_be_quoted_is_shown_quoted(path):
    with pytest.raises(UserError, match="quote it: ") as caught:
        compose.parse([f"data.path={path}"])
    (line,) = shlex.split(str(caught.value).partition("quote it: ")[2])  # as a shell reads it
    assert compose.parse([line])[0].value() == path


@pytest.mark.parametrize("override", ["a=[1", "seed=range(5", 'a="b', "a={b", "l&s=ce"])
def test_other_mistakes_are_not_about_quotes(override):
    with pytest.raises(UserError) as caught:
        compose.parse([override])
    assert "quote it" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("scales: [mini]", "recipe own: scales=['mini'] is not valid; it takes keys"), ("scales: {mini: 3}", "recipe own, scale mini is 3"),
        ("scales: {mini: {defaults: 3}}", "recipe own, scale mini: defaults=3 is not valid; it takes a list"), ("defaults: [3]", "not 3"),
        ("paper: a title", "paper='a title' is not valid"), ("claims: {say: x}", "is not valid; it takes a list"), ("search: 3", "search=3 is not valid"),
        ("notes: \udce9", "is not valid YAML"),
    ],
)  # fmt: skip
def test_a_recipe_whose_parts_are_of_another_kind_is_named(tmp_path, monkeypatch, text, said):
    (tmp_path / "own.yaml").write_text(text, errors="surrogateescape")
    monkeypatch.setattr(recipes, "names", lambda: {"own": tmp_path / "own.yaml"})
    with pytest.raises(UserError) as caught:
        recipes.read.__wrapped__("own")
    assert said in str(caught.value)


def test_a_folder_of_ones_own(tmp_path):
    (tmp_path / "loss").mkdir()
    (tmp_path / "recipe" / "mine").mkdir(parents=True)
    (tmp_path / "loss" / "own_loss.py").write_text(
        '"""Own."""\nfrom runner import card\nCARD = card()\n\n\n'
        'def build(a: float = 1.0):\n    """It.\n\n    Args:\n        a: > 0; x.\n    """\n    return lambda z, t: a\n'
    )
    (tmp_path / "recipe" / "mine" / "first.yaml").write_text("defaults: [override /loss: own_loss]\nloss: {a: 2}\nscales: {smoke: {loss: {a: 3}}}\n")
    registry.add_folder(tmp_path)
    recipes.names.cache_clear()
    with compose.composer() as call:
        assert bind(call(["+recipe=mine/first"])).one("loss").args["a"] == 2.0
        assert bind(call(["+recipe=mine/first", "scale=smoke"])).one("loss").args["a"] == 3.0
        assert bind(call(["loss=own_loss"])).one("loss").load().build(2)(0, 0) == 2
    recipes.names.cache_clear()
