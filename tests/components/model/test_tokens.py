"""Models of token ids refuse data with more ids than they know, or with other inputs, before the first step, and ids that were mixed."""

import pytest
import torch

from runner import UserError
from runner.components.model import ngrams, text_cnn
from runner.core.data import Info


@pytest.mark.parametrize("model", [ngrams, text_cnn])
def test_all_ids_must_be_known(model):
    with pytest.raises(UserError, match=r"has 21 token ids, the model knows 20: set model\.vocabulary=21"):
        model.build(vocabulary=20)(Info("classification", (5,), 2, vocabulary=21), None)
    assert model.build(vocabulary=20)(Info("classification", (5,), 2, vocabulary=20), None)
    assert model.build(vocabulary=20)(Info("classification", (5,), 2), None)


@pytest.mark.parametrize("model", [ngrams, text_cnn])
def test_inputs_must_be_one_row_of_ids(model):
    with pytest.raises(UserError, match=r"takes token ids \(T,\), this data has inputs of shape \(5, 7\)"):
        model.build(vocabulary=20)(Info("classification", (5, 7), 2, vocabulary=20), None)


@pytest.mark.parametrize("model", [ngrams, text_cnn])
def test_mixed_ids_are_refused(model):
    made = model.build(vocabulary=20)(Info("classification", (5,), 2, vocabulary=20), None).eval()
    x = torch.tensor([[1, 4, 2, 0, 0], [7, 3, 9, 9, 1]])
    assert torch.equal(made(x.float()), made(x))
    with pytest.raises(UserError, match="takes token ids, and is given other numbers"):
        made(0.7 * x + 0.3 * x.flip(0))
