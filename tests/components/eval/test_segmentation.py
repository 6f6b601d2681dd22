"""segmentation: against scikit-learn's Jaccard and F1 scores, and by hand where a class is nowhere."""

from types import SimpleNamespace

import pytest
import torch
from sklearn.metrics import f1_score, jaccard_score

from runner.components.eval.segmentation import build, overlap, scores
from runner.core.data import Batch, Split


def state_of(z, classes):
    def predictions(split):
        for rows in torch.arange(len(split)).split(3):
            yield Batch(split.x[rows], split.y[rows], rows, z=z[rows])

    return SimpleNamespace(info=SimpleNamespace(outputs=classes), device="cpu", predictions=predictions)


def test_the_scores_are_scikit_learns():
    g = torch.Generator().manual_seed(0)
    y, clean = torch.randint(4, (2, 7, 6, 5), generator=g)
    z = torch.randn(7, 6, 5, 4, generator=g)
    split = Split(torch.zeros(7, 1), y)
    found = build().measure(state_of(z, 4), split)
    assert set(found) == {"miou", "dice"}
    guess = z.argmax(-1).flatten().numpy()
    assert float(found["miou"]) == pytest.approx(100 * jaccard_score(y.flatten().numpy(), guess, labels=[1, 2, 3], average="macro"))
    assert float(found["dice"]) == pytest.approx(100 * f1_score(y.flatten().numpy(), guess, labels=[1, 2, 3], average="macro"))
    split.clean = clean
    more = build().measure(state_of(z, 4), split)
    assert float(more["miou"]) == pytest.approx(float(found["miou"]))
    assert float(more["miou_clean"]) == pytest.approx(100 * jaccard_score(clean.flatten().numpy(), guess, labels=[1, 2, 3], average="macro"))


def test_a_class_that_is_nowhere_does_not_count():
    guess, y = torch.tensor([1, 1, 0, 0]), torch.tensor([1, 0, 0, 0])
    iou, dice = scores(overlap(guess, y, 4))
    assert (float(iou), float(dice)) == pytest.approx((50, 200 / 3))
    assert scores(overlap(torch.zeros(4).long(), torch.zeros(4).long(), 3)) == (100.0, 100.0)
    assert float(scores(overlap(torch.tensor([2, 0]), torch.tensor([0, 0]), 3))[0]) == 0.0  # predicted where there is none
