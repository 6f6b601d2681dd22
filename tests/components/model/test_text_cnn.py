"""text_cnn: Kim's number of weights; what it computes, by hand; padding after a sentence changes nothing."""

import pytest
import torch
from torch.nn import functional as F

from runner import UserError
from runner.components.model.text_cnn import build
from runner.config.schema import schema
from runner.core.data import Info


def test_weights_of_the_paper(weights):
    n = weights(build(vocabulary=20000, width=300, filters=100), (50,), 2)
    assert n == 20000 * 300 + sum(100 * (300 * w + 1) for w in (3, 4, 5)) + 2 * 301


def test_by_hand():
    torch.manual_seed(0)
    model = build(vocabulary=9, width=4, filters=2, windows=[1, 3])(Info("classification", (6,), 3), None).eval()
    x = torch.tensor([5, 2, 8, 1])
    model.requires_grad_(False)
    words, found = F.pad(model.words.weight[x], (0, 0, 2, 2)), []
    for conv, size in zip(model.filters, (1, 3), strict=True):
        windows = words[2:6] if size == 1 else torch.stack([words[k : k + 3] for k in range(6)])
        scores = [[(w.T * kernel if size == 3 else w[:, None] * kernel).sum() + b for kernel, b in zip(conv.weight, conv.bias, strict=True)] for w in windows]
        found += torch.tensor(scores).relu().amax(0).tolist()
    expected = model.out.weight @ torch.tensor(found) + model.out.bias
    assert torch.allclose(model(x[None].float())[0], expected, atol=1e-5)


def test_padding_changes_nothing():
    torch.manual_seed(0)
    model = build(vocabulary=9)(Info("classification", (6,), 3), None).eval()
    x = torch.tensor([[5, 2, 8, 0, 0, 0, 0]])
    assert torch.allclose(model(x[:, :5]), model(x), atol=1e-6)


def test_filters_have_a_width():
    with pytest.raises(UserError, match=r"windows.*out of range"):
        schema("model", "text_cnn").bind({"windows": [3, 0]})
    with pytest.raises(ValueError, match="windows is empty"):
        build(windows=[])
