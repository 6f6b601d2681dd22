"""open_vocabulary: which labels go, what proposals are made of, and that scores tell nothing."""

import pytest
import torch
from scipy.stats import kstest, mannwhitneyu

from runner import UserError
from runner.components.data import digits, scenes
from runner.components.noise.open_vocabulary import build


def noisy(seed=0, **options):
    data = scenes.build(train_size=200, test_size=5, val_size=0)
    build(**options)(data, torch.Generator().manual_seed(seed))
    return data.train


def test_only_the_labels_of_novel_classes_go():
    split = noisy(novel=[1, 4])
    hidden = (split.clean == 2) | (split.clean == 5)
    assert hidden.any()
    assert (split.y[hidden] == 0).all()
    assert torch.equal(split.y[~hidden], split.clean[~hidden])


def test_the_shares_of_proposals_are_those_asked_for():
    split = noisy(novel=[0, 3], empty=0.6, mistaken=0.1, found=0.75)
    proposed, score, iou = (split.side[k] for k in ("proposed", "score", "iou"))
    used = proposed > 0
    assert set(proposed[used].tolist()) == {1, 4}
    right = used & (proposed == split.clean)
    nothing = used & (split.clean == 0)
    other = used & (split.clean > 0) & ~right
    total = int(used.sum())
    assert abs(int(right.sum()) / total - 0.3) < 0.01
    assert abs(int(nothing.sum()) / total - 0.6) < 0.01
    assert abs(int(other.sum()) / total - 0.1) < 0.01
    assert ((iou[nothing] >= 0.1) & (iou[nothing] < 0.5)).all()
    best = torch.zeros(200, split.side["objects"].shape[1]).scatter_reduce_(1, split.side["owner"], iou, "amax").gather(1, split.side["owner"])
    assert torch.equal(iou[right], best[right])  # no other region shows the object better
    objects = int(torch.isin(split.side["objects"][..., 0], torch.tensor([0.0, 3.0])).sum())
    assert abs(int(right.sum()) / objects - 0.75) < 4 * (0.75 * 0.25 / objects) ** 0.5 + 0.01  # a few objects no window reaches
    assert (score[~used] == 0).all()
    assert kstest(score[used].numpy(), "uniform", args=(0.8, 0.2)).pvalue > 0.001
    assert mannwhitneyu(score[right].numpy(), score[nothing].numpy()).pvalue > 0.001


def test_the_draw_hangs_on_its_generator():
    first, again, other = noisy(1), noisy(1), noisy(2)
    assert torch.equal(first.side["proposed"], again.side["proposed"])
    assert torch.equal(first.side["score"], again.side["score"])
    assert not torch.equal(first.side["proposed"], other.side["proposed"])


def test_off_and_what_cannot_be():
    split = noisy(novel=[])
    assert torch.equal(split.y, split.clean)
    assert not split.side["proposed"].any()
    assert not split.side["score"].any()
    with pytest.raises(ValueError, match="leave no proposal"):
        build(empty=0.9, mistaken=0.1)
    with pytest.raises(UserError, match="novel=6 is no class"):
        noisy(novel=[6])
    with pytest.raises(UserError, match="side\\['owner'\\]"):
        build()(digits.build(), torch.Generator())
