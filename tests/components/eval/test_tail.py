import pytest
import torch
from small import loop
from torch.nn import functional as F

from runner import UserError, contracts
from runner.components.eval.tail import build
from runner.execution.assemble import assemble


@pytest.mark.parametrize(("share", "worst"), [(0.1, 4), (0.001, 1), (1.0, 40)])
def test_against_a_sorted_list(share, worst):
    training = loop()
    split = training.state.data.test
    losses = sorted((F.cross_entropy(training.state.model(x[None]), y[None]).item() for x, y in zip(split.x, split.y, strict=True)), reverse=True)
    found = build(share).measure(training.state, split)
    assert found["loss_max"].item() == pytest.approx(losses[0], rel=1e-5)
    assert found["loss_cvar"].item() == pytest.approx(sum(losses[:worst]) / worst, rel=1e-5)


def test_a_sequence_is_one_sample():
    training = loop()
    training.state.model = lambda x: torch.eye(3)[torch.tensor([0, 1])].expand(len(x), 2, 3)
    split = training.state.data.test
    split.y = torch.stack([split.y, split.y], 1)
    training.state.loss = lambda z, t: F.cross_entropy(z.transpose(1, 2), t, reduction="none")
    found = build(1.0).measure(training.state, split)
    each = [[1 if y == k else 0 for k in (0, 1)] for y in split.y[:, 0].tolist()]
    normaliser = torch.eye(3)[0].logsumexp(0).item()
    want = [normaliser - sum(row) / 2 for row in each]
    assert found["loss_max"].item() == pytest.approx(max(want), rel=1e-5)
    assert found["loss_cvar"].item() == pytest.approx(sum(want) / len(want), rel=1e-5)


def test_boxes_have_no_loss_beside_the_learners_own():
    tree = contracts.config("learner", "detector")
    with pytest.raises(UserError, match=r"^eval/tail is for .*; data/scenes is boxes$"):
        assemble({**tree, "eval": {"tail": {"name": "tail"}}})
