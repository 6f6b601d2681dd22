from types import SimpleNamespace

import torch

from runner.components.eval.memorisation import build


def measure(clean, y, guess):
    batch = SimpleNamespace(y=torch.tensor(y), z=torch.eye(4)[torch.tensor(guess)], i=torch.arange(len(y)))
    split = SimpleNamespace(clean=None if clean is None else torch.tensor(clean))
    return build().measure(SimpleNamespace(predictions=lambda s: [batch]), split)


def test_by_hand():
    #   right   fitted  seen through  neither  right label, wrong guess
    found = measure([0, 1, 1, 2, 3, 3], [0, 2, 2, 0, 0, 3], [0, 2, 1, 2, 1, 1])
    assert {k: round(float(v), 4) for k, v in found.items()} == {"acc_noisy": 33.3333, "acc_clean": 50.0, "memorised": 25.0, "corrected": 50.0}


def test_nothing_to_say_without_wrong_labels():
    assert measure(None, [0, 1], [0, 0]) == {}
    assert measure([0, 1], [0, 1], [1, 1]) == {"acc_noisy": 50.0, "acc_clean": 50.0}
