"""Solutions are replayed by hand; rates of errors are as asked; sub-tasks are stretches of the hard tasks."""

import pytest
import torch

from runner.components.data.chain_arithmetic import build

P, K = 7, 6


def replay(x, y):
    """For one sample with every place filled: whether each step follows from what is written before it, and the true results."""
    start, operations, written = x[0], x[1 : K + 1], [*x[K + 2 :], y[-1]]
    assert x[K + 1] == 4 * P + 1
    assert written == y
    follows, truth, before, value = [], [], start, start
    for code, result in zip(operations, written, strict=True):
        kind, n = divmod(code - P, P)
        step = [lambda v, n=n: (v + n) % P, lambda v, n=n: (v - n) % P, lambda v, n=n: v * n % P][kind]
        follows.append(step(before) == result)
        value, before = step(value), result
        truth.append(value)
    return follows, truth


@pytest.mark.parametrize(("outcome", "step"), [(0.9, 0.15), (0.9, 0.6), (0.5, 0.2), (0.0, 0.0)])
def test_error_rates(outcome, step):
    data = build(tasks=800, steps=K, modulus=P, outcome_error=outcome, step_error=step)
    rows = [(y, *replay(x, y)) for x, y in zip(data.train.x.tolist(), data.train.y.tolist(), strict=True)]
    assert sum(not all(follows) for _, follows, _ in rows) == round(outcome * 800)
    assert sum(f.count(False) for _, f, _ in rows) == round(step * 800 * K)
    wrong = sum(y[-1] != truth[-1] for y, _, truth in rows) / 800
    assert outcome * 0.8 <= wrong <= outcome  # slips may cancel
    if step == outcome / K:  # one slip cannot cancel: every operation is one to one
        assert wrong == outcome
    assert all(all(follows) for follows, _ in (replay(x, y) for x, y in zip(data.test.x.tolist(), data.test.y.tolist(), strict=True)))


def test_subtasks_are_stretches_of_the_tasks():
    options = {"tasks": 50, "steps": K, "modulus": P, "outcome_error": 0.9, "step_error": 0.3}
    hard, parts, both = (build(**options, train=kind, sub=2).train for kind in ("hard", "subtasks", "both"))
    assert torch.equal(both.x, torch.cat([hard.x, parts.x]))
    blank = 4 * P
    for row in range(50):
        truth = replay(hard.x[row].tolist(), hard.y[row].tolist())[1]
        for part in range(3):
            x, y = parts.x[row + 50 * part].tolist(), parts.y[row + 50 * part].tolist()
            assert x[0] == [hard.x[row, 0].item(), *truth][2 * part]
            assert y == [*truth[2 * part : 2 * part + 2], *[blank] * (K - 2)]
            assert x[1 : K + 1] == [*hard.x[row, 1 + 2 * part : 3 + 2 * part].tolist(), *[blank] * (K - 2)]
            assert x[K + 2 :] == y[:-1]


def test_paraphrases_are_the_same_tasks_with_the_same_solutions():
    train = build(tasks=60, steps=K, modulus=P, outcome_error=0.5, step_error=0.2, train="rephrased").train
    assert torch.equal(train.y[:60], train.y[60:])
    assert not torch.equal(train.x[:60], train.x[60:])
    for row in range(60):
        assert replay(train.x[row].tolist(), train.y[row].tolist()) == replay(train.x[row + 60].tolist(), train.y[row + 60].tolist())


def test_rates_that_cannot_be():
    with pytest.raises(ValueError, match=r"between 15.0% and 90.0% wrong steps, not 10.0%"):
        build(steps=6, outcome_error=0.9, step_error=0.1)
    with pytest.raises(ValueError, match=r"between 15.0% and 90.0% wrong steps, not 0.0%"):
        build(steps=6, outcome_error=0.9)
    right, few = build(tasks=20, step_error=0.1), build(tasks=20, outcome_error=0.01)  # no solution is wrong; less than one is
    assert torch.equal(right.train.y, few.train.y)
