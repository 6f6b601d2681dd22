"""Search spaces: what a line of the grammar means, what depends on what, and what is refused."""

import pytest

from runner.config import compose, recipes, space
from runner.config.space import Choice, Interval
from runner.core.errors import UserError


def made(*overrides, file=None):
    with compose.composer():
        return space.of(list(overrides), file)


class Lowest:
    """A trial that suggests the first value of everything but of the keys that it was given."""

    def __init__(self, **chosen):
        self.chosen, self.asked = chosen, []

    def _take(self, key, first):
        self.asked.append(key)
        return self.chosen.get(key, first)

    def suggest_categorical(self, key, values):
        return self._take(key, values[0])

    def suggest_float(self, key, low, high, step=None, log=False):
        return self._take(key, low)

    suggest_int = suggest_float


@pytest.mark.parametrize(
    ("line", "axis"),
    [
        ("loss=ce,gce", Choice(("ce", "gce"))),
        ("seed=choice(3,1,3)", Choice(("3", "1"))),
        ("with=[elr],[],[elr,mixup]", Choice(("[elr]", "[]", "[elr,mixup]"))),
        ("noise.rate=interval(0.1,0.5)", Interval(0.1, 0.5)),
        ("model.width=int(interval(8,64))", Interval(8, 64)),
        ("optimizer.lr=tag(log,interval(1e-3,1))", Interval(0.001, 1.0, log=True)),
        ("model.width=tag(log,int(interval(8,64)))", Interval(8, 64, log=True)),
        ("trainer.batch_size=range(32,257,32)", Interval(32, 256, 32)),
        ("trainer.batch_size=range(32,256,32)", Interval(32, 224, 32)),
        ("seed=range(3,0,-1)", Interval(1, 3, 1)),
        ("seed=range(3,4)", Choice(("3",))),
    ],
)
def test_a_line_of_the_grammar(line, axis):
    (found,) = made("scale=smoke", line).axes.values()
    assert found == axis
    assert [type(e) for e in found.ends] == [type(e) for e in axis.ends]  # 8 and 8.0 are equal, not the same


def test_a_file_says_the_same_as_a_command_line(tmp_path):
    file = tmp_path / "space.yaml"
    file.write_text("""
loss: [ce, gce]
loss.q: {interval: [0.1, 1.0], when: {loss: gce}}
optimizer.lr: {interval: [1e-3, 1.0], log: true}
model.width: {interval: [8, 64], int: true}
trainer.batch_size: {range: [32, 257, 32]}
with: [[elr], []]
""")
    lines = ("loss=ce,gce", "loss.q=interval(0.1,1.0)", "optimizer.lr=tag(log,interval(1e-3,1.0))", "model.width=int(interval(8,64))")
    assert made(file=file) == made(*lines, "trainer.batch_size=range(32,257,32)", "with=[elr],[]")


def test_a_key_is_suggested_where_its_option_is_chosen_only():
    found = made("loss.q=interval(0.1,1.0)", "loss=ce,gce", "with.elr.lam=interval(1,5)", "with=[],[mixup,elr]", "loss.q=interval(0.1,1.0)")
    assert found.suggest(Lowest()) == {"loss": "ce", "with": "[]"}
    assert found.suggest(Lowest(loss="gce")) == {"loss": "gce", "with": "[]", "loss.q": 0.1}
    assert found.suggest(Lowest(**{"with": "[mixup,elr]"})) == {"loss": "ce", "with": "[mixup,elr]", "with.elr.lam": 1.0}


def test_a_fixed_key_is_left_out_where_its_option_is_not_chosen():
    found = made("loss=ce,gce", "loss.q=0.3", "seed=1")
    assert found.overrides({"loss": "ce"}) == ["seed=1", "loss=ce"]
    assert found.overrides({"loss": "gce"}) == ["loss.q=0.3", "seed=1", "loss=gce"]


def test_conditions_of_a_file_reach_across_groups_and_chain(tmp_path):
    file = tmp_path / "space.yaml"
    file.write_text("""
noise.rate: {interval: [0.0, 0.5], when: {loss.q: [0.3, 0.5]}}
loss.q: [0.1, 0.3, 0.5]
loss: [ce, gce]
""")
    found = made(file=file)
    assert list(found.suggest(Lowest(loss="gce", **{"loss.q": "0.5"}))) == ["loss", "loss.q", "noise.rate"]
    assert list(found.suggest(Lowest(loss="gce"))) == ["loss", "loss.q"]
    assert list(found.suggest(Lowest())) == ["loss"]
    assert ["loss=gce", "loss.q=0.3", "noise.rate=0.5"] in list(found.corners())


def test_the_command_line_goes_before_the_file_and_the_file_before_the_recipe(tmp_path, monkeypatch):
    read = recipes.read
    declared = {"loss": ["ce", "gce", "mae"], "loss.q": [0.1, 0.2], "noise.rate": [0.1, 0.2], "seed": [1, 2]}
    monkeypatch.setattr(recipes, "ABOUT", (*recipes.ABOUT, "search"))
    monkeypatch.setattr(recipes, "read", lambda name: {**read(name), "search": declared})
    file = tmp_path / "space.yaml"
    file.write_text("noise.rate: [0.3, 0.4]\nloss: [ce, gce]")
    found = made("+recipe=noisy_labels", "scale=smoke", "seed=3,4", "loss=gce", file=file)
    assert found.axes == {"loss": Choice(("gce",)), "loss.q": Choice(("0.1", "0.2")), "noise.rate": Choice(("0.3", "0.4")), "seed": Choice(("3", "4"))}
    assert found.fixed == ("+recipe=noisy_labels", "scale=smoke")
    without = made("+recipe=noisy_labels", "loss=ce", file=file)
    assert "loss.q" not in without.axes
    with compose.composer() as composed:
        assert {composed(line)["loss"]["q"] for line in found.corners()} == {0.1, 0.2}


def test_corners_hold_every_value_of_a_choice_and_both_ends_of_an_interval():
    lines = list(made("loss=ce,gce,mae", "loss.q=interval(0.1,1.0)", "noise.rate=interval(0,0.5)").corners())
    assert {o for line in lines for o in line} == {"loss=ce", "loss=gce", "loss=mae", "loss.q=0.1", "loss.q=1.0", "noise.rate=0.0", "noise.rate=0.5"}
    assert all("loss=gce" in line for line in lines if "loss.q=1.0" in line)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("loss=ce", "nothing to search"),
        ("loss.q=interval(1.0,0.1)", "from the smaller number to the larger one"),
        ("loss.q=interval(0.5,0.5)", "from the smaller number to the larger one"),
        ("optimizer.lr=tag(log,interval(0,1))", "starts above 0"),
        ("optimizer.lr=tag(lgo,interval(1,2))", "no tag 'lgo'"),
        ("seed=tag(log,range(1,9))", "goes with interval"),
        ("seed=range(3,3)", "chooses nothing"),
        ("seed=zip(1,2)", "zip(...) is for sweeps"),
        ("seed=interval(1", "cannot read"),
    ],
)
def test_lines_that_are_refused(line, said):
    with pytest.raises(UserError, match=said.replace("(", r"\(").replace(")", r"\)")):
        made(line)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("loss.q: {intervall: [0.1, 1]}", "did you mean 'interval'"),
        ("loss.q: {interval: 3}", "is no search space"),
        ("loss.q: {interval: [0.1, 1], range: [1, 2]}", "is no search space"),
        ("loss.q: gce", "is no search space"),
        ("loss: [ce, gce]\nloss.q: {interval: [0.1, 1], when: {los: gce}}", "which is no searched choice; did you mean 'loss'"),
        ("loss: [ce, gce]\nloss.q: {interval: [0.1, 1], when: {loss: gcee}}", "'loss' is never gcee; did you mean 'gce'"),
        ("seed: {choice: [1, 2], when: {noise.rate: 0.1}}\nnoise.rate: {choice: [0.1, 0.2], when: {seed: 1}}", "depend on each other: "),
        ("- 3", "holds no keys"),
        ("a: [", "is not valid YAML"),
    ],
)
def test_files_that_are_refused(tmp_path, content, said):
    file = tmp_path / "space.yaml"
    file.write_text(content)
    with pytest.raises(UserError, match=said):
        list(made(file=file).corners())
