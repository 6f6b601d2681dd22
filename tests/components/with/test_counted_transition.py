"""The error of a counted noise model against the paper's formula; the correction against probabilities summed by hand."""

import importlib

import pytest
import torch
from small import loop, part

from runner.core.errors import UserError

counted = importlib.import_module("runner.components.with.counted_transition")
C = 5
NOISE = {
    "uniform": 0.6 * torch.eye(C) + 0.1 * (1 - torch.eye(C)),
    "pair": 0.7 * torch.eye(C) + 0.3 * torch.eye(C).roll(1, 1),
}


@pytest.mark.parametrize("kind", NOISE)
@pytest.mark.parametrize("n", [50, 200, 800])
def test_expected_squared_error(kind, n):
    matrix, g, total, repetitions = NOISE[kind], torch.Generator().manual_seed(n), 0.0, 400
    clean = torch.arange(n) % C
    for _ in range(repetitions):
        noisy = torch.multinomial(matrix[clean], 1, generator=g)[:, 0]
        total += ((counted.count(clean, noisy, C) - matrix) ** 2).mean().item() / repetitions
    expected = (matrix * (1 - matrix) / (n / C)).mean().item()
    assert total == pytest.approx(expected, rel=0.12)


def test_random_samples_of_skewed_classes_give_a_worse_model_than_balanced_ones():
    y = torch.cat([torch.full((k,), c) for c, k in enumerate((4000, 400, 200, 100, 100))])
    g, error = torch.Generator().manual_seed(0), {"random": 0.0, "balanced": 0.0}
    for sampling in error:
        for _ in range(200):
            noisy = torch.multinomial(NOISE["uniform"][y], 1, generator=g)[:, 0]
            rows = counted.choose(y, 200, sampling, C, g)
            assert len(rows) == len(rows.unique()) == 200
            error[sampling] += ((counted.count(y[rows], noisy[rows], C) - NOISE["uniform"]) ** 2).mean().item()
        if sampling == "balanced":
            assert (y[rows].bincount() == 40).all()
    assert error["random"] > 1.3 * error["balanced"]


def test_a_class_without_samples_counts_as_clean():
    found = counted.count(torch.tensor([0, 0, 0, 2]), torch.tensor([0, 1, 1, 0]), 3)
    assert torch.allclose(found, torch.tensor([[1 / 3, 2 / 3, 0], [0, 1, 0], [1, 0, 0]]))


def test_the_loss_is_that_of_the_corrupted_prediction():
    training = loop(part(counted.build(pairs=40), "with/counted_transition", rung={"losses": "correct"}))
    state, hook = training.state, training.components[-1].object
    hook.matrix = torch.tensor([[0.7, 0.2, 0.1], [0.0, 0.9, 0.1], [0.3, 0.3, 0.4]])
    batch = state.data.train.fetch(torch.arange(6))
    batch.z = state.model(batch.x)
    plain = state.loss(batch.z, batch.t)
    for found, own, z, y in zip(hook.losses(state, plain + 2, batch), plain, batch.z, batch.y, strict=True):
        p = sum(z.softmax(0)[c] * hook.matrix[c, y] for c in range(3))
        assert found.item() == pytest.approx(2 - p.log().item(), rel=1e-5), own


def test_all_pairs_give_the_frequencies_and_more_are_refused():
    training = loop(part(counted.build(pairs=0), "with/counted_transition", rung={"losses": "correct"}))
    assert torch.equal(training.components[-1].object.matrix, torch.eye(3))
    train = training.state.data.train
    train.relabel((train.y + (torch.arange(40) % 4 == 0)) % 3)
    hook = counted.build(pairs=40)
    hook.setup(training.state)
    table = torch.zeros(3, 3).index_put_((train.clean, train.y), torch.ones(40), accumulate=True)
    assert torch.allclose(hook.matrix, table / table.sum(1, keepdim=True))
    assert torch.allclose(training.state.per_sample["transition"], hook.matrix.T[train.y])
    with pytest.raises(UserError, match="more than the 40"):
        counted.build(pairs=41).setup(training.state)
