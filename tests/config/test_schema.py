"""Signatures as schema: what is accepted, what is refused, and what the refusal says."""

import pytest

from runner.config import registry
from runner.config import schema as schemas
from runner.config.bind import bind
from runner.core.errors import UserError

SOURCE = '''
"""A thing: it does something.

More text.
"""
from typing import Literal
from runner import Duration, card
CARD = card(paper="p2020", off={"rate": 0.0}, rung={"batch": "mix"}, owns=("mask",))
def build(rate: float = 0.5, size: int = 3, kind: Literal["a", "b", 3] = "a", top: float | None = None, until: Duration = "5ep",
          names: list[str] = ("x",), deep: bool = False, path: str | None = None, free: float = 1.0, must: str = ...):
    """Build it.

    Args:
        rate: in (0, 1]; a share,
            told over two lines.
        size: >= 1; a count. Does not change the result.
        kind: which.
        top: > 0; a limit.
        until: when.
        names: who.
        deep: how.
        path: where.
        free: any number.

    Returns:
        nothing: of note.
    """
'''.replace(", must: str = ...", ", *, must: str")


@pytest.fixture
def thing(tmp_path):
    file = tmp_path / "thing.py"
    file.write_text(SOURCE.lstrip())
    return schemas.Schema("loss", "thing", file, *schemas.read(file))


def test_reading(thing):
    assert thing.summary == "A thing: it does something."
    assert (thing.card.paper, thing.card.off, thing.card.rung, thing.card.owns) == ("p2020", {"rate": 0.0}, {"batch": "mix"}, ("mask",))
    p = thing.parameters
    assert p["rate"].help == "in (0, 1]; a share, told over two lines."
    assert p["kind"].choices == ("a", "b", 3)
    assert p["top"].kinds == ("float", "None")
    assert p["must"].required
    assert p["size"].cosmetic
    assert not p["rate"].cosmetic
    assert "nothing" not in p


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("rate", 1, 1.0), ("size", 2, 2), ("kind", "b", "b"), ("kind", 3, 3), ("top", None, None), ("top", 2, 2.0), ("until", "7it", "7it"),
        ("names", ["a", "b"], ["a", "b"]), ("deep", True, True),
    ],
)  # fmt: skip
def test_accepted(thing, key, value, expected):
    bound = thing.bind({key: value, "must": "x"})[key]
    assert bound == expected
    assert type(bound) is type(expected)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("rate", 0, "loss.rate=0 is out of range: it must be in (0, 1]"), ("rate", 1.5, "out of range"), ("rate", "x", "it takes float"),
        ("rate", True, "it takes float"), ("size", 0, "it must be >= 1"), ("size", 1.5, "it takes int"), ("size", True, "it takes int"),
        ("kind", "c", "known: 3, a, b"), ("top", 0, "> 0"), ("until", "5", "80ep or 500it"), ("names", "a", "list[str]"), ("names", [1], "list[str]"),
        ("deep", 1, "it takes bool"), ("rat", 1, "did you mean 'rate'?"), ("rate", float("nan"), "out of range"), ("free", float("inf"), "finite"),
        ("must", "???", "loss.must must be given (str)"),
    ],
)  # fmt: skip
def test_refused(thing, key, value, said):
    with pytest.raises(UserError) as caught:
        thing.bind({"must": "x", key: value})
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


TREE = {"data": "digits", "model": "mlp", "loss": "ce", "noise": {"name": "symmetric", "rate": 0.2}, "with": {"elr": {"name": "elr"}}, "seed": 3}


def test_binding_is_a_fixed_point():
    config = bind(TREE)
    assert bind(config.plain()) == config
    assert config.one("noise").args["rate"] == 0.2
    assert config.settings["seed"] == 3
    assert [c.key for c in config["with"]] == ["with.elr"]


def test_several_noises():
    config = bind({**TREE, "noise": {"name": "symmetric", "rate": 0.2, "none": {"name": "none"}}})
    assert [c.key for c in config["noise"]] == ["noise", "noise.none"]
    assert bind(config.plain()) == config


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"lost": 1}, "unknown key 'lost'; did you mean 'loss'?"), ({"loss": 3}, "loss=3 is not valid"), ({"loss": {"q": 1}}, "'loss' has no option chosen"),
        ({"with": {"elr": {"lam": 1}}}, "'with.elr' is not chosen"), ({"with": {"elr": {"name": "elr", "lamb": 1}}}, "unknown key 'with.elr.lamb'"),
        ({"loss": {"name": ["ce", "mae"]}}, "takes one option"), ({"kernels": {"back": 1}}, "unknown key 'kernels.back'; did you mean 'backend'?"),
        ({"seed": "x"}, "seed='x' is not valid"), ({"model": {"name": "mlpp"}}, "did you mean 'mlp'?"),
    ],
)  # fmt: skip
def test_binding_refuses(change, said):
    with pytest.raises(UserError) as caught:
        bind({**TREE, **change})
    assert said in str(caught.value)


def test_two_owners_are_refused(tmp_path):
    from runner.config import registry

    for name in ("own_a", "own_b"):
        file = tmp_path / "sparsity" / f"{name}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f'"""{name}."""\nfrom runner import card\nCARD = card(owns=("mask",))\n\n\ndef build():\n    """It."""\n')
    registry.add_folder(tmp_path)
    with pytest.raises(UserError, match="sparsity/own_a and sparsity/own_b both own 'mask'"):
        bind({**TREE, "sparsity": {"name": "own_a", "own_b": {"name": "own_b"}}})


@pytest.mark.parametrize(
    ("learner", "hook", "what"),
    [
        ("co_teaching", "forward_correction", "acts on the loss of each sample, which learner/co_teaching replaces"),
        ("distillation", "sop", "acts on the loss of each sample"),
        ("elr_plus", "elr", "acts on the network's outputs for the batch, which learner/elr_plus replaces"),
        ("co_teaching", "nested_dropout", "acts on the run's one network"),
        ("mean_teacher", "ema", "both own 'eval-weights'"),
    ],
)
def test_a_hook_that_would_do_nothing_or_harm_with_a_learner_is_refused(learner, hook, what):
    tree = {"learner": learner, "with": {hook: {"name": hook}}}
    with pytest.raises(UserError, match=what):
        bind(tree)
    assert bind({**tree, "learner": "supervised"})


def test_two_hooks_that_set_the_labels_are_refused():
    with pytest.raises(UserError, match="with/alim and with/joint_optimisation both own 'targets'"):
        bind({"with": {name: {"name": name} for name in ("joint_optimisation", "alim")}})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("X = 1\n\n\ndef build(q: float = X):\n    pass\n", "own.py:4: 'X' is no literal"),
        ("def build(q: Literal[X] = 1):\n    pass\n", "own.py:1: 'X' is no literal"),
        ("from runner import card\n\nCARD = card(arxive='x')\n", "own.py:3: a card has no 'arxive'; did you mean 'arxiv'?"),
        ("CARD = 5\n", "own.py:1: CARD is declared as CARD = card(NAME=VALUE, ...)"),
        ("\ndef build(q: float = 1.0:\n    pass\n", "own.py:2: "),
    ],
)
def test_a_component_that_cannot_be_read_is_said_with_its_line(tmp_path, text, said):
    (tmp_path / "own.py").write_text(text)
    with pytest.raises(UserError) as error:
        schemas.read(tmp_path / "own.py")
    assert str(error.value).startswith(f"{tmp_path}/{said}")


def test_a_component_in_another_encoding_is_said_with_its_name(tmp_path):
    (tmp_path / "odd.py").write_bytes(b"def build(x='\xe9'): pass")
    with pytest.raises(UserError, match=r"odd\.py: 'utf-8' codec"):
        schemas.read(tmp_path / "odd.py")


def test_a_component_that_cannot_be_imported_is_said_with_its_line(tmp_path, monkeypatch):
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss" / "own.py").write_text("import math\nimport nosuchthing\n\n\ndef build():\n    pass\n")
    monkeypatch.setattr(registry, "locate", lambda group, option: tmp_path / group / f"{option}.py")
    with pytest.raises(UserError, match=r"loss/own.py:2: No module named 'nosuchthing'$"):
        registry.load("loss", "own")


def test_what_a_component_acts_on_is_what_another_may_replace():
    cards = [schemas.schema(group, option).card for group in registry.GROUPS for option in registry.options(group)]
    used = {resource for card in cards for resource in card.uses}
    assert used
    assert used <= {resource for card in cards for resource in card.owns}
