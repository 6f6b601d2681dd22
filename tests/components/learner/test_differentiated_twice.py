"""Learners that differentiate the model twice say in one line where a layer does not allow it."""

import pytest
import torch

from runner import UserError, contracts
from runner.components.learner._weighing import twice


def test_a_layer_without_a_second_derivative():
    tree = contracts.config("model", "ngrams", duration="2it") | {"learner": {"name": "storm"}}
    with pytest.raises(UserError, match=r"differentiates the model twice, .*_embedding_bag_backward.*choose another model") as said:
        contracts.start(tree).run()
    assert "\n" not in str(said.value)


def test_other_errors_are_what_they_are():
    with pytest.raises(RuntimeError, match="must match"), twice():
        torch.ones(2) + torch.ones(3)
