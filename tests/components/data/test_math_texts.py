"""math_texts: texts that are spelled back from their tokens; rows that hold all of them in order; slips as many as asked and nowhere else; whole tests."""

import json
import pickle
import re

import pytest
import tiny_lm
import torch
from math_files import many, write

from runner import UserError
from runner.components._boxed import canonical, last_box
from runner.components.data._math import written
from runner.components.data.math_texts import build, pieces, slipped
from runner.config import recipes

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
END = "</s>"


@pytest.fixture(scope="module", params=[False, True], ids=["", "begin"])
def cut(request, tmp_path_factory):
    """A folder of a tokenizer, and what begins each text."""
    folder = tmp_path_factory.mktemp("tokenizer")
    tiny_lm.write_tokenizer(folder, request.param)
    return str(folder), "<s>" * request.param


MADE = {
    "train/algebra/1": ("What is $2+3$?", 1, "We add  2 and 3. So\n $2+3=\\boxed{5}$."),
    "train/algebra/10": ("Solve $2x=7$.", 5, "Divide.\nThen $x = 7/2$, so $\\boxed{ \\frac{7}{2} }$ it is, not 4."),
    "train/geometry/2": ("Is it so? Find $y$ é", 4, "\\boxed{3} is wrong! As $11+1 = 12$, $y = \\boxed 12$"),
    "train/geometry/3": ("No box", 5, "It is 4."),
    "test/algebra/1": ("What is $9+3$?", 5, "We add 9 and 3. So $9+3=\\boxed{12}$."),
    "test/algebra/2": ("Add {} to 90", 1, "\\boxed{93}"),
    "test/algebra/3": ("Long", 1, 12 * "and so on " + "\\boxed{93}"),
}


SHORT = {"test/algebra/1": ("T", 5, "\\boxed{1}")}  # fits a row of 24 tokens, so that all texts but the end of the last one are in the rows


@pytest.fixture
def root(tmp_path):
    return str(write(tmp_path, MADE))


def short(folder, made):
    return str(write(folder, {name: task for name, task in made.items() if name.startswith("train")} | SHORT))


def texts(info, rows):
    """What rows of x and y say, end of texts and all; each token once."""
    whole = rows.x.flatten().tolist() + rows.y[-1, -1:].tolist()
    return transformers.AutoTokenizer.from_pretrained(info.spell.func.__self__.name_or_path).decode(whole)


def text(name, begin, prompt="{}\nSolution:\n"):
    problem, _, solution = MADE[name]
    return begin + prompt.replace("{}", problem) + solution + END


@pytest.mark.parametrize("length", [24, 55])
def test_rows_hold_all_texts_one_behind_the_other(tmp_path, cut, length):
    folder, begin = cut
    data = build(short(tmp_path, MADE), folder, length=length)
    assert (data.info.task, data.info.shape, data.info.outputs) == ("language", (length,), 258)
    assert torch.equal(data.train.x.flatten()[1:], data.train.y.flatten()[:-1])
    said = texts(data.info, data.train)
    expected = [text(name, begin) for name in MADE if name.startswith("train") and "box" in MADE[name][2]]
    parts = re.findall(rf"(?s).*?{END}", said)
    assert len(parts) in (2, 3)  # the last one may be cut
    assert set(parts) <= set(expected)
    (last,) = {e for e in expected if e not in parts} or {""}
    assert last.startswith(said[sum(map(len, parts)) :])
    ids = transformers.AutoTokenizer.from_pretrained(folder)("".join(expected), add_special_tokens=False)["input_ids"]
    assert len(data.train) == (len(ids) - 1) // length


def test_the_order_is_drawn(tmp_path, cut):
    root = str(many(tmp_path))
    whole = [build(root, cut[0], length=128, split=s) for s in (0, 0, 1)]
    first, again, other = (sorted(re.findall(r"Task (\d+)", said := texts(d.info, d.train)), key=said.index) for d in whole)
    assert first == again != other
    assert len(set(first)) == len(first) >= 58  # of 60; what is left over is dropped
    assert first != sorted(first, key=int)


def test_test_rows_are_whole_problems(root, cut):
    folder, begin = cut
    data = build(root, folder, length=100)
    rows = torch.cat([data.test.x, data.test.y[:, -1:]], 1)
    assert torch.equal(data.test.x[:, 1:], data.test.y[:, :-1])
    assert rows.shape == (2, 101)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for name, row, asked in zip(("test/algebra/1", "test/algebra/2"), rows, data.test.side["asked"], strict=True):
        whole = text(name, begin)
        assert tokenizer.decode(row) == whole + END * (101 - len(tokenizer(whole, add_special_tokens=False)["input_ids"]))
        assert tokenizer.decode(row[:asked]) == begin + MADE[name][0] + "\nSolution:\n"
        assert data.info.spell(row[asked:].tolist()) == MADE[name][2]
    assert [len(build(root, folder, length=100, test_level=level).test) for level in (1, 2, 5)] == [2, 1, 1]
    assert len(build(root, folder, length=160).test) == 3
    other = build(root, folder, length=100, prompt="Q: {} A: ").test
    assert tokenizer.decode(other.x[1][: other.side["asked"][1]]) == begin + "Q: Add {} to 90 A: "


def test_what_is_known_of_the_data_can_be_sent_to_other_processes(root, cut):
    info = build(root, cut[0], length=100).info
    again = pickle.loads(pickle.dumps(info))
    assert again == info
    assert again.words == info.words
    assert len(info.words) == 258
    assert again.spell(transformers.AutoTokenizer.from_pretrained(cut[0])("é, \\frac12 .").input_ids) == "é, \\frac12 ."


def test_levels(tmp_path, cut):
    root = short(tmp_path, MADE)
    said = [texts(d.info, d.train) for d in (build(root, cut[0], length=24, level=level) for level in (1, 4, 5))]
    assert [("What is" in s, "Find" in s, "Solve" in s) for s in said] == [(True, True, True), (False, True, True), (False, False, True)]


@pytest.mark.parametrize("solution", [s for _, _, s in MADE.values()])
def test_pieces_make_up_the_text(solution):
    before, inside, _ = last_box(solution)
    *steps, (answer,) = pieces(solution)
    assert "".join(w for s in steps for w in s) == before
    assert answer == canonical(inside)


STEPS = [(f"Task {i}", " ".join(["Let us see.", *(f"Step {j + 10} gives {i + j}." for j in range(3)), f"Hence \\boxed{{{i}}}"])) for i in range(60)]


@pytest.mark.parametrize(("outcome", "step"), [(0.9, 0.3), (0.5, 0.5), (0.9, 0.9), (0.9, 0.225)])
def test_slips_are_as_many_as_asked(outcome, step):
    found = slipped(list(STEPS), outcome, step, torch.Generator().manual_seed(0))
    assert [problem for problem, _ in found] == [problem for problem, _ in STEPS]
    answers = steps = 0
    for (_, right), (_, wrong) in zip(STEPS, found, strict=True):
        assert re.sub(r"\d+", "", right) == re.sub(r"\d+", "", wrong)  # but for numbers all is as it was
        told = [list(zip(*(re.findall(r"\d+", part) for part in pair), strict=True)) for pair in zip(right.split(". "), wrong.split(". "), strict=True)]
        changed = [[p != q for p, q in numbers] for numbers in told]
        assert changed[0] == []
        assert all(c in ([True, True], [False, False]) for c in changed[1:4])  # all numbers of a step, or none
        assert changed[4] == [True] or not any(map(any, changed))
        assert 0 <= int(told[4][0][1]) < 60  # an answer of another problem
        answers, steps = answers + changed[4][0], steps + sum(c[0] for c in changed[1:4])
    assert answers == round(outcome * 60)
    assert answers + steps == round(step * 60 * 4)


def test_slips_are_in_training_only(tmp_path, cut):
    root = str(many(tmp_path))
    right, wrong, other = (build(root, cut[0], length=128, outcome_error=o, step_error=0.5, split=s) for o, s in ((0.0, 0), (0.9, 0), (0.9, 1)))
    for data in (wrong, other):
        assert torch.equal(right.test.x, data.test.x)
        assert torch.equal(right.test.y, data.test.y)
    told = [dict(re.findall(rf"(?s)Task (\d+)\nSolution:\n(.*?){END}", texts(d.info, d.train))) for d in (right, wrong, other)]
    for some, more in ((0, 1), (0, 2), (1, 2)):
        both = told[some].keys() & told[more].keys()
        assert len(both) >= 55
        assert len({t for t in both if told[some][t] != told[more][t]}) > len(both) / 2


def test_slips_keep_what_is_not_theirs():
    """Also boxes without braces, spaces and what is behind the box; an answer is written as in the problem that it comes from."""
    tasks = [MADE[name][::2] for name in MADE if name.startswith("train") and "box" in MADE[name][2]]
    assert slipped(list(tasks), 0.0, 0.0, torch.Generator()) == tasks
    five, seven, twelve = (solution for _, solution in slipped(list(tasks), 1.0, 1.0, torch.Generator().manual_seed(0)))
    assert re.fullmatch(r"(?s)We add  (?!2)\d+ and (?!3 )\d+\. So\n \$(?!2)\d+\+(?!3)\d+=\\boxed\{( \\frac\{7\}\{2\} |12)\}\$\.", five)
    assert re.fullmatch(r"(?s)Divide\.\nThen \$x = (?!7)\d+/(?!2)\d+\$, so \$\\boxed\{(5|12)\}\$ it is, not 4\.", seven)
    assert re.fullmatch(r"(?s)\\boxed\{\d+\} is wrong! As \$\d+\+\d+ = \d+\$, \$y = \\boxed\{( \\frac\{7\}\{2\} |5)\}\$", twelve)


def test_solutions_of_a_teacher_are_trained_on(tmp_path, cut):
    (folder, begin), root = cut, short(tmp_path, MADE)
    told = [("Add 1 to 2.", "It is 4."), ("And é?", " \\boxed{5}\n"), ("Third", "so\u2028there")]
    lines = [json.dumps({"problem": p, "solution": s, "level": 1}, ensure_ascii=False) for p, s in told]
    (tmp_path / "told.jsonl").write_text("\n\n".join(lines) + "\n", encoding="utf-8")
    own, other = build(root, folder, length=24), build(root, folder, length=24, solutions=str(tmp_path / "told.jsonl"))
    said, expected = texts(other.info, other.train), [f"{begin}{p}\nSolution:\n{s.strip()}{END}" for p, s in told]
    assert set(re.findall(rf"(?s).*?{END}", said)) <= set(expected)
    assert len("".join(expected)) - 24 < len(said) <= len("".join(expected))
    assert torch.equal(other.test.x, own.test.x)
    with pytest.raises(ValueError, match=r"^data\.solutions are trained on as they are: outcome_error and step_error must be 0$"):
        build(root, folder, solutions="told", outcome_error=0.5, step_error=0.5)
    with pytest.raises(UserError, match=r"^data\.solutions=.*none cannot be read: No such file or directory$"):
        build(root, folder, solutions=str(tmp_path / "none"))
    (tmp_path / "told.jsonl").write_text('{"problem": "a", "solution": "b"}\n{"problem": "a"}\n')
    with pytest.raises(UserError, match=r'told\.jsonl, line 2, is not \{"problem": "\.\.\.", "solution": "\.\.\."\} \(KeyError\(\'solution\'\)\)$'):
        build(root, folder, solutions=str(tmp_path / "told.jsonl"))
    (tmp_path / "one.jsonl").write_text('{"problem": "a", "solution": "b"}\n')
    with pytest.raises(UserError, match=r"^the 1 problems of .*one\.jsonl have \d+ tokens, less than one row: set data\.length to less$"):
        build(root, folder, length=2048, solutions=str(tmp_path / "one.jsonl"))


def write_lines(file, told):
    file.write_text("".join(json.dumps({"problem": p, "solution": s}) + "\n" for p, s in told))
    return str(file)


def test_greatest_level(tmp_path, cut):
    root = short(tmp_path, MADE)
    said = [texts(d.info, d.train) for d in (build(root, cut[0], level=a, most_level=b, length=24) for a, b in ((1, 4), (1, 1), (4, 4)))]
    assert [("What is" in s, "Find" in s, "Solve" in s) for s in said] == [(True, True, False), (True, False, False), (False, True, False)]
    with pytest.raises(ValueError, match=r"^no problem has level 4 or more and 3 or less: set data\.level or data\.most_level$"):
        build(root, cut[0], level=4, most_level=3)


def test_more_texts_are_trained_on_without_slips(tmp_path, cut):
    (folder, begin), root = cut, str(write(many(tmp_path / "many"), SHORT))
    more = [(f"More {k}", f"The {k} gives {k + 1}. \\boxed{{{k}}}" if k else "and no box") for k in range(20)]
    file = write_lines(tmp_path / "more.jsonl", more)
    for slips in ({}, {"outcome_error": 0.9, "step_error": 0.5}):
        alone, both = build(root, folder, length=24, **slips), build(root, folder, length=24, also=file, **slips)
        assert torch.equal(alone.test.x, both.test.x)
        one, two = (re.findall(rf"(?s).*?{END}", texts(d.info, d.train)) for d in (alone, both))
        expected = {f"{begin}{p}\nSolution:\n{s}{END}" for p, s in more}
        assert len(expected & set(two)) >= 19  # the last of all texts may be cut
        assert len(set(two) - expected) >= 59
        assert len(set(two) - expected - set(one)) <= 1  # the last one of the others alone
        places = [text in expected for text in two]
        assert any(places[:40])
        assert any(places[40:])


def test_texts_of_numina_math(tmp_path):
    """The line of Python in the notes of noise/supervision_quality_reasoning, on columns as AI-MO/NuminaMath-CoT has them."""
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    notes = " ".join(recipes.read("noise/supervision_quality_reasoning")["notes"].split())
    line = notes[notes.index("from datasets import") :].partition(" writes the file")[0]
    rows = [{"source": ("cn_k12", "orca_math")[k % 2], "problem": f"Numina {k}?", "solution": f"é\u2028{k} \\boxed{{{k}}}", "messages": []} for k in range(10)]
    datasets.Dataset.from_list(rows).to_parquet(tmp_path / "train.parquet")
    line = line.replace('"AI-MO/NuminaMath-CoT"', f'"parquet", data_files="{tmp_path}/train.parquet"').replace("orca.jsonl", f"{tmp_path}/orca.jsonl")
    exec(line)
    assert written(f"{tmp_path}/orca.jsonl", "data.also") == [(r["problem"], r["solution"]) for r in rows if r["source"] == "orca_math"]


def test_other_tests_are_asked(tmp_path, cut):
    (folder, begin), root = cut, short(tmp_path, MADE)
    told = [("One?", "It is \\boxed{1}"), ("None?", "It is 2."), ("Long?", 20 * "so on " + "\\boxed{3}"), ("Four?", "\\boxed 4$")]
    file = write_lines(tmp_path / "test.jsonl", told)
    own, other = build(root, folder, length=40), build(root, folder, length=40, test=file)
    assert torch.equal(own.train.x, other.train.x)
    rows = torch.cat([other.test.x, other.test.y[:, -1:]], 1)
    decode = transformers.AutoTokenizer.from_pretrained(folder).decode
    assert [decode(row[:n]) for row, n in zip(rows, other.test.side["asked"], strict=True)] == [f"{begin}{p}\nSolution:\n" for p in ("One?", "Four?")]
    assert [other.info.spell(row[n:].tolist()) for row, n in zip(rows, other.test.side["asked"], strict=True)] == [told[0][1], told[3][1]]
    (tmp_path / "empty.jsonl").write_text("\n \n")
    for key in ("solutions", "also", "test"):
        assert build(str(tmp_path / "nothing"), folder, length=40, solutions=file, test=file, **({key: file} if key == "also" else {}))
        with pytest.raises(UserError, match=rf"^data\.{key}=.*none cannot be read: No such file or directory$"):
            build(root, folder, length=24, **{key: str(tmp_path / "none")})
        with pytest.raises(UserError, match=rf"^data\.{key}=.*empty\.jsonl is empty$"):
            build(root, folder, length=24, **{key: str(tmp_path / "empty.jsonl")})
    with pytest.raises(UserError, match=r"^no problem of data\.test=.*test\.jsonl with an answer in a box has 10 tokens or less: set data\.length to more$"):
        build(root, folder, length=10, test=file)


def test_what_is_wrong_is_said(tmp_path, root, cut):
    with pytest.raises(ValueError, match=r"^50% wrong solutions have here between .* wrong steps, not 100\.0%$"):
        build(str(many(tmp_path / "many")), cut[0], outcome_error=0.5, step_error=1.0)
    with pytest.raises(ValueError, match=r"^50% wrong solutions have here between .* wrong steps, not 0\.0%$"):
        build(str(tmp_path / "many"), cut[0], outcome_error=0.5)
    with pytest.raises(ValueError, match=r"^prompt='Solve' has no place for the problem; put \{\} there$"):
        build(root, cut[0], prompt="Solve")
    with pytest.raises(UserError, match=r"^the 3 problems of data\.level=1 or more have \d+ tokens, less than one row: set data\.length to less$"):
        build(root, cut[0], length=2048)
    tokenizer = transformers.AutoTokenizer.from_pretrained(cut[0])
    tokenizer.eos_token, tokenizer.pad_token = None, "<pad>"
    tokenizer.save_pretrained(tmp_path / "endless")
    with pytest.raises(UserError, match=r"^the tokenizer of '.*endless' has no token that ends a text; choose another with data\.tokenizer$"):
        build(root, str(tmp_path / "endless"))
    with pytest.raises(UserError, match=r"^no problem of the test of data\.test_level=1 or more has 20 tokens or less: set data\.length to more$"):
        build(root, cut[0], length=20)
    with pytest.raises(UserError, match=r"^tokenizer '.*none' is not on this machine: looked in .*data\.tokenizer"):
        build(root, str(tmp_path / "none"))
    with pytest.raises(UserError, match=r"train split of MATH .*looked in .*train.*data\.root"):
        build(str(tmp_path / "nothing"), cut[0])
