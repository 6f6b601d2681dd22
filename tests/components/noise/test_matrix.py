import numpy as np
import pytest
import torch

from runner import UserError
from runner.components.noise.matrix import build
from runner.core.data import Data, Info, Split

T = [[0.7, 0.2, 0.1], [0.0, 1.0, 0.0], [0.25, 0.25, 0.5]]
EACH = 4000


def noisy(transition):
    y = torch.arange(3).repeat(EACH)
    split = Split(torch.zeros(len(y), 1), y)
    build(transition)(Data(Info("classification", (1,), 3), split, split), torch.Generator().manual_seed(0))
    return split


def test_frequencies_are_the_rows_of_the_matrix():
    split, want = noisy(T), torch.tensor(T)
    found = torch.zeros(3, 3).index_put_((split.clean, split.y), torch.ones(len(split)), accumulate=True) / EACH
    assert ((found - want).abs() <= 4.5 * (want * (1 - want) / EACH).sqrt()).all()  # where T is 0 or 1, exactly


def test_files_and_lists_give_the_same_labels(tmp_path):
    np.save(tmp_path / "t.npy", np.array(T))
    (tmp_path / "t.csv").write_text("\n".join(",".join(map(str, row)) for row in T))
    (tmp_path / "t.txt").write_text("\n".join("  ".join(map(str, row)) for row in T))
    for name in ("t.npy", "t.csv", "t.txt"):
        assert torch.equal(noisy(str(tmp_path / name)).y, noisy(T).y)


def test_what_is_no_transition_matrix_is_said_in_one_line(tmp_path):
    (tmp_path / "words.txt").write_text("a b c\n")
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    wrong = {
        "row 1 sums to 0.9": [T[0], [0.0, 0.9, 0.0], T[2]],
        "in \\[0, 1\\]": [[1.5, -0.5, 0.0], T[1], T[2]],
        "3 rows of 3": [[0.5, 0.5], [0.5, 0.5]],
        "looked for": str(tmp_path / "missing.csv"),
        "could not convert": str(tmp_path / "words.txt"),
        "must end in": str(tmp_path),
        "allow_pickle": str(tmp_path / "objects.npy"),
    }
    wrong["looked for"], wrong["must end in"] = wrong["must end in"], str(tmp_path / "t.json")
    (tmp_path / "t.json").write_text("[]")
    for message, transition in wrong.items():
        with pytest.raises(UserError, match=message) as caught:
            noisy(transition)
        assert "\n" not in str(caught.value)
