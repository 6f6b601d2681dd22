"""mlp: piecewise linear; on tokens it sees the whole sequence where one answer is asked for, else one token."""

import torch

from runner.components.data._language import Answers
from runner.components.model.mlp import build
from runner.core.data import Info


def test_sizes_and_homogeneity():
    model = build(width=7, depth=2)(Info("classification", (1, 2, 3), 4), None)
    assert [tuple(p.shape) for p in model.parameters()] == [(7, 6), (7,), (7, 7), (7,), (4, 7), (4,)]
    for p in model.parameters():
        if p.dim() == 1:
            torch.nn.init.zeros_(p)
    x = torch.randn(5, 1, 2, 3, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(model(3 * x), 3 * model(x), atol=1e-6)  # without biases ReLU networks are homogeneous
    assert len(list(build(depth=0)(Info("classification", (6,), 4), None).parameters())) == 2


def test_an_answer_to_the_whole_sequence():
    model = build(width=8)(Answers("language", (3,), 5, predicted=1), None)
    x = torch.tensor([[0, 1, 4], [2, 1, 4]])
    assert model(x).shape == (2, 1, 5)
    assert not torch.allclose(model(x)[0], model(x)[1])


def test_next_tokens_from_each_token_alone():
    model = build(width=8)(Info("language", (4,), 5), None)
    out = model(torch.tensor([[0, 1, 2, 0], [3, 1, 4, 1]]))
    assert out.shape == (2, 4, 5)
    assert torch.allclose(out[0, 0], out[0, 3], atol=1e-6)
    assert torch.allclose(out[0, 1], out[1, 1], atol=1e-6)
    assert not torch.allclose(out[0, 0], out[1, 0])
