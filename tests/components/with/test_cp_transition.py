"""The theorem itself, on the exact joint of the labels: starts agree in likelihood, and in T only with three labels."""

import importlib
import itertools

import pytest
import torch
from small import loop, part

from runner import UserError

cp = importlib.import_module("runner.components.with.cp_transition")
T = torch.tensor([[0.7, 0.2, 0.1], [0.05, 0.8, 0.15], [0.25, 0.05, 0.7]], dtype=torch.float64)
PRIOR = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)


def exact(labels):
    """All combinations of labels with their probabilities."""
    kinds = torch.tensor(list(itertools.product(range(3), repeat=labels)))
    return kinds, (PRIOR.unsqueeze(0) * T[:, kinds].prod(-1).T).sum(1)


def fits(labels, starts=6, steps=4000):
    kinds, weights = exact(labels)
    found, g = [], torch.Generator().manual_seed(0)
    for _ in range(starts):
        rows = torch.rand(3, 3, generator=g, dtype=torch.float64)
        start = (torch.eye(3) + rows / rows.sum(1, keepdim=True)) / 2
        found.append(cp.fit(kinds, weights, torch.full((3,), 1 / 3, dtype=torch.float64), start, steps))
    return found, (weights * weights.log()).sum()


@pytest.mark.parametrize("labels", [1, 2])
def test_one_or_two_labels_leave_the_matrix_open(labels):
    found, best = fits(labels)
    assert all(abs(likelihood - best) < 1e-6 for _, _, likelihood in found)  # all explain the joint
    assert max((matrix - T).abs().mean() for _, matrix, _ in found) > 0.02
    assert max((a[1] - b[1]).abs().mean() for a, b in itertools.combinations(found, 2)) > 0.02


def test_three_labels_determine_it():
    found, best = fits(3)
    for prior, matrix, likelihood in found:
        assert abs(likelihood - best) < 1e-8
        assert (matrix - T).abs().max() < 1e-3
        assert (prior - PRIOR).abs().max() < 1e-3


def test_neighbours_are_the_nearest_of_the_others():
    made = loop(n=60)
    split = made.state.data.train
    labels = cp.neighbours(split, 2)
    x = split.x - split.x.mean(0)
    for k in range(60):
        cosines = [-2.0 if j == k else float(x[j] @ x[k] / x[j].norm() / x[k].norm()) for j in range(60)]
        near = sorted(range(60), key=lambda j: -cosines[j])[:2]
        assert labels[k].tolist() == [split.y[k].item(), *(split.y[j].item() for j in near)]


def test_annotations_are_asked_for():
    with pytest.raises(UserError, match="noise=annotators"):
        loop(part(cp.build(source="annotators"), "with/cp_transition", rung={"losses": "correct"}))


def test_the_loss_is_that_of_the_corrected_outputs():
    hook = cp.build(labels=0)
    made = loop(part(hook, "with/cp_transition", rung={"losses": "correct"}))
    state = made.state
    hook.matrix = T.float()
    batch = state.data.train.fetch(torch.arange(8))
    batch.z = state.model(batch.x).detach()
    wanted = [-float(sum(batch.z[k].softmax(0)[c] * T[c, batch.y[k]] for c in range(3)).log()) for k in range(8)]
    assert torch.allclose(hook.losses(state, state.loss(batch.z, batch.t), batch), torch.tensor(wanted), atol=1e-5)
