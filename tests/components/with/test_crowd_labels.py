"""Against the model that the answers were drawn from: abilities, pairs and shares; the likelihood by hand; Dawid and Skene on a crowd with a liar."""

import importlib
import math

import pytest
import torch
from small import loop, part

from runner import UserError
from runner.components.noise.crowd import build as crowd
from runner.core.data import Data, Info, Split

labels = importlib.import_module("runner.components.with.crowd_labels")


def drawn(n=3000, classes=5, **options):
    split = Split(torch.zeros(n, 1), torch.arange(n) % classes)
    crowd(**options)(Data(Info("classification", (1,), classes), split, split), torch.Generator().manual_seed(0))
    return split


def test_abilities_are_found_up_to_noise():
    import numpy as np

    split = drawn(workers=40, answers=20)
    p = np.random.default_rng(int(torch.randint(2**62, (), generator=torch.Generator().manual_seed(0)))).beta(1.0, 1.5, 40)
    found = labels.abilities(split.side["answers"], 5)
    assert np.corrcoef(p, found)[0, 1] > 0.97
    assert abs(p.mean() - found.mean().item()) < 0.05


def test_many_good_workers_give_the_pair_and_its_share():
    split = drawn(n=500, workers=200, answers=200, ability=[8.0, 2.0], clarity=[0.7, 0.7])
    soft = labels.top_two(split.side["answers"], 5)
    top, place = soft.topk(2, 1)
    assert (place[:, 0] == split.clean).double().mean() > 0.98
    assert (place[:, 1] == split.side["confusing"]).double().mean() > 0.98
    assert (top[:, 0] - 0.7).abs().mean() < 0.06


def test_the_pair_is_the_likeliest_by_hand():
    split = drawn(n=40, workers=6, answers=6)
    answers = split.side["answers"]
    p = labels.abilities(answers, 5).tolist()
    soft = labels.top_two(answers, 5, grid=10)

    def likelihood(task, g, h, q):
        chance = lambda i, a: (1 - p[i]) / 5 + p[i] * (q if a == g else 1 - q if a == h else 0)
        return sum(math.log(chance(i, a)) for i, a in enumerate(answers[task].tolist()))

    for task in range(40):
        best = max(likelihood(task, g, h, q / 10) for g in range(5) for h in range(5) if g != h for q in range(5, 11))
        pairs = [(g, h, float(soft[task, g])) for g in range(5) for h in range(5) if g != h and soft[task, g] + soft[task, h] > 0.999]
        assert max(likelihood(task, *pair) for pair in pairs) > best - 1e-9


def test_dawid_and_skene_see_through_a_liar():
    g = torch.Generator().manual_seed(0)
    truth = torch.randint(3, (600,), generator=g)
    liar = (truth + 1) % 3
    fair = torch.where(torch.rand(600, 2, generator=g) < 0.75, truth.unsqueeze(1), torch.randint(3, (600, 2), generator=g))
    answers = torch.cat([fair, liar.unsqueeze(1)], 1)
    found = labels.dawid_skene(answers, 3).argmax(1)
    assert (found == truth).double().mean() > 0.97  # who always errs in one way says all
    assert (labels.votes(answers, 3).argmax(1) == truth).double().mean() < 0.9


def test_answers_that_are_missing_weigh_nothing():
    """Tables of all workers and samples, zero where there is no answer, give the same votes, Dawid and Skene's classes and abilities."""
    answers = drawn(n=60, workers=9, answers=4).side["answers"]
    given = torch.nn.functional.one_hot(answers.clamp_min(0), 5).double() * (answers >= 0).unsqueeze(2)
    votes = p = given.sum(1) / 4
    assert torch.allclose(labels.votes(answers, 5), votes)
    for _ in range(3):
        confusion = torch.einsum("nc,nwk->wck", p, given) + 0.01
        p = (torch.einsum("nwk,wck->nc", given, (confusion / confusion.sum(2, keepdim=True)).log()) + p.mean(0).log()).softmax(1)
    assert torch.allclose(labels.dawid_skene(answers, 5, steps=3), p)
    levels = torch.arange(1, 5)
    centred = (2.0 * (answers.unsqueeze(2) >= levels).double() - 1) - (1 - 2 * levels / 5)
    vector = torch.linalg.svd((centred * (answers >= 0).unsqueeze(2)).transpose(1, 2).reshape(-1, 9))[2][0]
    found = labels.abilities(answers, 5)
    inside = (found > 0.01) & (found < 0.99)  # of the others only that they are clamped is known
    ratio = found[inside] / vector[inside]
    assert inside.sum() > 3
    assert torch.allclose(ratio, ratio[0].expand_as(ratio))


def test_targets_of_a_run():
    hook = labels.build()
    made = loop(part(hook, "with/crowd_labels", rung={"batch": "target"}))
    train = made.state.data.train
    assert torch.equal(hook.targets.argmax(1), train.y)  # without a crowd the labels
    batch = train.fetch(torch.tensor([3, 1]))
    hook.batch(made.state, batch)
    assert torch.equal(batch.t, hook.targets[[3, 1]])


def test_two_classes_have_no_top_two():
    from types import SimpleNamespace

    train = SimpleNamespace(side={"answers": torch.zeros(3, 2, dtype=torch.long)}, y=torch.zeros(3, dtype=torch.long))
    state = SimpleNamespace(data=SimpleNamespace(train=train), info=SimpleNamespace(outputs=2), per_sample={})
    with pytest.raises(UserError, match="method=top_two needs three classes or more"):
        labels.build().setup(state)
    labels.build("dawid_skene").setup(state)
    assert state.per_sample["crowd_labels"][:, 0].min() > 0.9
