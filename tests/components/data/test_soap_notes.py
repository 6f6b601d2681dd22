"""Order, shares and errors of the generated notes."""

import pytest
import torch

from runner.components.data.soap_notes import build


def test_sections_are_whole_and_in_the_hospitals_order():
    train = build(notes=300, annotated=200).train
    for rows, order in ((slice(0, 300), [0, 1, 2, 3]), (slice(300, 500), [2, 3, 0, 1])):
        for note in train.clean[rows].tolist():
            assert [tag for tag, before in zip(note, [None, *note], strict=False) if tag != before] == order
    assert train.side["target"].tolist() == [False] * 300 + [True] * 200
    assert torch.equal(train.y[300:], train.clean[300:])


def test_rules_err_on_whole_sections():
    train = build(notes=4000, annotated=0, error=0.2).train
    wrong = (train.y != train.clean).double()
    shares = torch.stack([(wrong * (train.clean == s)).sum(1) / (train.clean == s).sum(1) for s in range(4)])
    assert set(shares.flatten().tolist()) == {0.0, 1.0}
    assert shares.mean().item() == pytest.approx(0.2, abs=0.01)
    exact = build(notes=50, error=0.0)
    assert torch.equal(exact.train.y, exact.train.clean)
    assert torch.equal(exact.test.side["rules"], exact.test.y)


def test_overlap_and_shift_are_shares_of_the_sentences():
    data = build(notes=4000, annotated=4000, phrases=10, overlap=0.4, shift=0.25)
    kind = data.train.x // 10  # 0-3 phrases of the sections, 4-7 those of the target hospital, 8 shared
    source, target = kind[:4000], kind[4000:]
    assert (source == 8).double().mean().item() == pytest.approx(0.4, abs=0.01)
    assert (target == 8).double().mean().item() == pytest.approx(0.4, abs=0.01)
    assert not ((source > 3) & (source < 8)).any()
    assert ((target > 3) & (target < 8)).double().mean().item() == pytest.approx(0.6 * 0.25, abs=0.01)
    own = kind < 8
    assert torch.equal((kind % 4)[own], data.train.clean[own])
    assert data.info.outputs == 90
