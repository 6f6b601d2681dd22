"""Headings err as often as sentences stray; the words say which section a sentence is of, not where it stands; test and training labels are as asked."""

import pytest
import torch

from runner.components.data.sectioned_notes import build


def test_headings_are_wrong_about_sentences_that_stray_to_or_from_the_plan():
    data = build(notes=20000, heading_rate=0.2, off_topic=0.3)
    train, place = data.train, torch.arange(12).repeat(4000) // 3
    assert torch.equal(train.y, (place != 0).long())
    wrong = (train.y != train.clean).double()
    assert wrong[place == 0].mean().item() == pytest.approx(0.3, abs=0.01)
    assert wrong[place != 0].mean().item() == pytest.approx(0.1, abs=0.01)  # a third of the strays go to the plan
    assert len(data.test) == 300 * 12
    assert data.test.clean is None


def test_sentences_are_of_the_true_topic_alone():
    """A word's frequency in sentences of the plan is the same whether they stand in the plan or strayed from it."""
    train = build(notes=40000, heading_rate=0.5, off_topic=0.3, vocabulary=10).train
    assert train.x.max() == 9
    rates = [torch.stack([(train.x[rows] == w).double().mean() for w in range(10)]) for rows in (
        (train.clean == 0) & (train.y == 0), (train.clean == 0) & (train.y == 1), (train.clean == 1) & (train.y == 1)
    )]  # fmt: skip
    assert torch.allclose(rates[0], rates[1], atol=0.01)
    assert (rates[0] - rates[2]).abs().max() > 0.03


def test_labels_as_asked():
    options = {"notes": 200, "heading_rate": 0.5, "off_topic": 0.4}
    headings, truth = build(**options), build(**options, labels="truth", test_labels="headings")
    assert torch.equal(headings.train.x, truth.train.x)
    assert truth.train.clean is None
    assert torch.equal(headings.train.clean, truth.train.y)
    assert torch.equal(headings.test.y, truth.test.clean)
    assert not torch.equal(headings.test.y, truth.test.y)
    assert not torch.equal(headings.train.x, build(**options, split=1).train.x)


def test_sentences_are_padded_at_the_end():
    x = build(notes=1000).train.x
    assert x.shape == (130 * 12, 15)
    assert set((x > 0).sum(1).tolist()) == {9, 12, 15}
    assert (x[:, :-1] >= x[:, 1:].clamp_max(1)).all()  # no word after padding
    assert x.max() < 1000
