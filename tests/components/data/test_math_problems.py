"""math_problems: a few problems in MATH's files, read back word by word; slips are counted against the right solutions; what is missing or damaged is said."""

import pytest
import torch
from math_files import many, write

from runner import UserError
from runner.components.data.math_problems import UNKNOWN, build
from runner.execution.assemble import assemble

MADE = {
    "train/algebra/1": ("What is $2+3$?", 1, "We add 2 and 3. So $2+3=\\boxed{5}$."),
    "train/algebra/10": ("Solve $2x=7$.", 5, "Divide.\nThen $x = 7/2$, so $\\boxed{\\frac{7}{2}}$ it is, not 4."),
    "train/geometry/2": ("Is it so? Find $y$ if $y-1=11$.", 4, "\\boxed{3} is wrong! As $11+1 = 12$, $y = \\boxed 12$"),
    "train/geometry/3": ("No box", 5, "It is 4."),
    "train/geometry/4": ("Too long", 5, "a b c d e f g h i j k l m n o p q r s t u v \\boxed{4}"),
    "train/geometry/5": ("Of no level", "?", "Clearly \\fbox{ 5 }"),
    "test/algebra/1": ("What is $9+3$?", 5, "We add 9 and 3. So $9+3=\\boxed{12}$."),
    "test/algebra/2": ("What is $90+3$?", 1, "\\boxed{93}"),
}
LENGTH, SOLUTION = 8, 21
SMALL = {"length": LENGTH, "solution": SOLUTION}


@pytest.fixture
def root(tmp_path):
    return write(tmp_path, MADE)


def spelled(x, y, known):
    """The sample with its words in the places of ids; ~ for an unknown one."""
    return [" ".join(known[k] for k in row.tolist() if k) for row in (x[:LENGTH], y)]


WORDS = [  # in the order of the files, as text of the words kept: problem, solution, answer
    ("What is $ 2 + 3 $ ?", "We add 2 and 3 . So $ 2 + 3 = 5"),
    ("Solve $ 2 x = 7 $ .", "Divide . Then $ x = 7 / 2 $ , so $ \\frac{7}{2}"),
    ("if $ y - 1 = 11 $ .", "\\boxed { 3 } is wrong ! As $ 11 + 1 = 12 $ , $ y = 12"),
    ("Of no level", "Clearly 5"),
]


def dictionary(train):
    """id -> word, from the training samples; every id is one word and every word one id."""
    known = {0: "", UNKNOWN: "~"}
    for x, y, (problem, solution) in zip(train.x, train.y, WORDS, strict=True):
        ids = [k for k in torch.cat([x[:LENGTH], y]).tolist() if k]
        words = [*problem.split()[-LENGTH:], *solution.split()]
        assert len(ids) == len(words)
        for k, word in zip(ids, words, strict=True):
            assert known.setdefault(k, word) == word
    assert len(set(known.values())) == len(known)
    return known


def test_problems_are_words_with_the_answer_at_the_end(root):
    data = build(str(root), **SMALL)
    known = dictionary(data.train)
    assert (data.info.task, data.info.shape, data.info.predicted) == ("language", (LENGTH + SOLUTION,), SOLUTION)
    assert data.info.outputs == len(known) + 1 == max(known) + 1  # the separator is in x alone
    assert {known[k] for k in range(3, 6)} == {"5", "12", "\\frac{7}{2}"}
    for split in data.splits().values():
        assert torch.equal(split.x[:, LENGTH + 1 :], split.y[:, :-1])
        assert (split.x[:, LENGTH] == 2).all()
        assert (split.y[:, -1] != 0).all()
    assert not (data.train.y[:, -1] == UNKNOWN).any()  # so that it is not written there in the test
    assert data.train.y[3, 1:-1].tolist() == [0] * (SOLUTION - 2)
    assert data.train.x[3, :LENGTH].tolist()[:-3] == [0] * (LENGTH - 3)
    test = [spelled(x, y, known) for x, y in zip(data.test.x, data.test.y, strict=True)]
    assert test == [["What is $ ~ + 3 $ ?", "We add ~ and 3 . So $ ~ + 3 = 12"], ["What is $ ~ + 3 $ ?", "~"]]


def test_levels_and_vocabulary(root):
    hard = build(str(root), level=5, **SMALL)
    assert (len(hard.train), len(hard.test)) == (1, 1)
    assert len(build(str(root), level=4, **SMALL).train) == 2
    whole, small = build(str(root), **SMALL), build(str(root), vocabulary=8, **SMALL)
    assert small.info.outputs == 8
    kept = whole.train.y < 8
    assert torch.equal(small.train.y[kept], whole.train.y[kept])
    assert (small.train.y[~kept] == UNKNOWN).all()
    assert [dictionary(whole.train)[k] for k in (6, 7)] == ["$", "="]  # 11 times and 6 times
    with pytest.raises(ValueError, match="vocabulary=5 is less than the 3 answers"):
        build(str(root), vocabulary=5, **SMALL)
    with pytest.raises(UserError, match=r"train has no problem of data\.level=1 .* data\.solution=1 words"):
        build(str(root), length=8, solution=1)


@pytest.mark.parametrize(("outcome", "step"), [(0.9, 0.3), (0.5, 0.5), (0.9, 0.9), (0.9, 0.225), (0.0, 0.3)])
def test_slips_are_as_many_as_asked(tmp_path, outcome, step):
    root = str(many(tmp_path))
    right, data = build(root, **SMALL), build(root, **SMALL, outcome_error=outcome, step_error=step)
    assert torch.equal(right.test.y, data.test.y)
    assert torch.equal(data.train.x[:, : LENGTH + 1], right.train.x[:, : LENGTH + 1])
    assert torch.equal(data.train.x[:, LENGTH + 1 :], data.train.y[:, :-1])
    other = data.train.y != right.train.y
    wrong = other[:, -1]
    assert int(wrong.sum()) == round(outcome * 60)
    assert not other[~wrong].any()
    numbers = torch.tensor([[4 + 5 * j + 1, 4 + 5 * j + 3] for j in range(3)])  # Let us see . Step 10 gives 4 .
    slips = other[:, numbers]
    assert torch.equal(slips[..., 0], slips[..., 1])  # all numbers of a step, or none
    assert int(slips[..., 0].sum() + wrong.sum()) == (round(step * 60 * 4) if outcome else 0)
    other[:, [*numbers.flatten().tolist(), -1]] = False
    assert not other.any()
    if outcome:
        again, another = (build(root, **SMALL, outcome_error=outcome, step_error=step, split=s).train.y for s in (0, 1))
        assert torch.equal(again, data.train.y)
        assert not torch.equal(another, again)


@pytest.mark.parametrize("step", [0.6, 0.1, 0.0])
def test_shares_that_cannot_be(tmp_path, step):
    with pytest.raises(ValueError, match=rf"50% wrong solutions have here between 12.5% and 50.0% wrong steps, not {step:.1%}"):
        build(str(many(tmp_path)), **SMALL, outcome_error=0.5, step_error=step)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"problem": "a", "level": "Level 1"}', '{"problem": 3, "level": "Level 1", "solution": "a"}', "\xff"])
def test_a_damaged_file_is_named(root, text):
    (root / "test" / "algebra" / "2.json").write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match=r"2\.json is damaged") as error:
        build(str(root), **SMALL)
    assert "\n" not in str(error.value)


def test_missing_files_are_said(root):
    for file in (root / "test" / "algebra").iterdir():
        file.unlink()
    with pytest.raises(UserError, match=r"test split of MATH .*looked in .*test.*data\.root") as error:
        build(str(root))
    assert "\n" not in str(error.value)


def test_it_trains(tmp_path):
    tree = {
        "data": {"name": "math_problems", "root": str(many(tmp_path)), **SMALL},
        "model": {"name": "gpt", "width": 64, "depth": 1, "heads": 2}, "loss": "ce", "learner": "supervised", "optimizer": {"name": "adamw", "lr": 0.01},
        "schedule": "constant", "noise": "none", "sparsity": "none", "softmax": "softmax", "device": "cpu",
        "trainer": {"name": "standard", "duration": "200it", "batch_size": 30}, "eval": {"answers": {"name": "answers"}, "accuracy": {"name": "accuracy"}},
    }  # fmt: skip
    assert assemble(tree, [].append).run()["test/answer_last"] == 100  # the test is a task of training
