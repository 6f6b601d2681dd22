"""answers: the last answer of each worker to each sample, whatever the file's order and columns; majorities; what is wrong is said in one line."""

import pytest
import torch

from runner import UserError
from runner.components.noise.answers import build
from runner.core.data import Data, Info, Split

LINES = [(0, 7, 2), (0, 9, 2), (1, 7, 0), (2, 9, 1), (0, 4, 1), (2, 4, 1), (2, 7, 0), (1, 4, 0), (1, 7, 1)]  # worker 7 says 0 of sample 1, then 1
EXPECTED = [[1, 2, 2], [0, 1, -1], [1, 0, 1]]  # of workers 4, 7 and 9


def split_of(n=3, classes=3, item=None):
    split = Split(torch.zeros(n, 1), torch.zeros(n, dtype=torch.long))
    if item is not None:
        split.side["item"] = torch.tensor(item)
    return split, Data(Info("classification", (1,), classes), split, split)


def corrupted(file, seed=0, **options):
    split, data = split_of(**{k: options.pop(k) for k in ("n", "classes", "item") if k in options})
    build(str(file), **options)(data, torch.Generator().manual_seed(seed))
    return split


def test_places_of_a_file_without_a_header(tmp_path):
    (tmp_path / "a.txt").write_text("".join(f"{s}\t{w}\t{a}\n" for s, w, a in LINES))
    split = corrupted(tmp_path / "a.txt")
    assert split.side["answers"].tolist() == EXPECTED
    assert (int(split.y[0]), int(split.y[2])) == (2, 1)
    assert split.clean.tolist() == [0, 0, 0]
    (tmp_path / "b.txt").write_text("".join(f"{w}, {s + 1}, {a + 1}\n" for s, w, a in LINES))
    assert torch.equal(corrupted(tmp_path / "b.txt", columns=["1", "0", "2"], first_sample=1, first_class=1).side["answers"], split.side["answers"])


def test_columns_of_a_table_and_checks_of_attention(tmp_path):
    rows = [*LINES[:4], (-99999, 7, 2), *LINES[4:]]
    (tmp_path / "a.csv").write_text("who,image,said,seconds\n" + "".join(f"{w},{s},{a},1.5\n" for s, w, a in rows))
    assert corrupted(tmp_path / "a.csv", columns=["image", "who", "said"]).side["answers"].tolist() == EXPECTED


def test_samples_are_those_that_the_data_numbers(tmp_path):
    (tmp_path / "a.txt").write_text("".join(f"{s} {w} {a}\n" for s, w, a in LINES))
    assert corrupted(tmp_path / "a.txt", n=2, item=[2, 0]).side["answers"].tolist() == [EXPECTED[2], EXPECTED[0]]


def test_workers_have_names_and_samples_may_be_there_twice(tmp_path):
    (tmp_path / "a.csv").write_text("\ufeffs,w,a\n" + "".join(f"{s},{'AX1'[w // 4]}{w},{a}\n" for s, w, a in LINES), encoding="utf-8")
    split = corrupted(tmp_path / "a.csv", columns=["s", "w", "a"], item=[2, 1, 2])
    assert sorted(map(sorted, split.side["answers"].tolist())) == sorted(map(sorted, [EXPECTED[2], EXPECTED[1], EXPECTED[2]]))
    assert torch.equal(split.side["answers"][0], split.side["answers"][2])


def test_ties_go_by_chance(tmp_path):
    (tmp_path / "a.txt").write_text("".join(f"{s} {w} {w}\n" for s in range(300) for w in range(2)))
    first, again, other = (corrupted(tmp_path / "a.txt", seed, n=300).y for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert 110 < first.sum() < 190
    assert first.max() == 1


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("0 1 2\n1 1\n2 1 0\n", {}, r"its answer 2 is '1 1', which has no column 2"),
        ("0 1 x\n", {}, r"cannot use .*invalid literal"),
        ("0,1,\n", {}, r"cannot use .*invalid literal for int\(\) with base 10: ''"),
        ("0 1 2\n1 1 0\n2 1 0\n3 1 0\n", {}, r"answers about sample 3, but the training split has 3: is it a part of the data"),
        ("", {}, r"it holds no answers"),
        ("a,b\n1,2\n", {"columns": ["a", "b", "c"]}, r"it has no column 'c', it has: a, b"),
        ("0 1 2\n1 1 0\n", {}, r"says nothing of 1 of the 3 training samples; see noise\.first_sample"),
        ("0 1 2\n1 1 3\n2 1 1\n", {}, r"has answers from 1 to 3; the 3 classes begin with noise\.first_class=0"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, text, options, said):
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(UserError, match=said) as error:
        corrupted(tmp_path / "a.txt", **options)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"no answers there; looked for .*none"):
        corrupted(tmp_path / "none")
    with pytest.raises(ValueError, match="not 2"):
        build("a", ["x", "y"])
