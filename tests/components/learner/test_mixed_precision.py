"""Learners whose own networks and scores are computed in half precision too."""

import math

import pytest

from runner import contracts


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("learner", ["meta_weight", "storm", "rcal"])
def test_it_trains_in_mixed_precision(learner, precision):
    rows, weights = contracts.trace(contracts.config("learner", learner, duration="4it", precision=precision))
    assert math.isfinite(rows[-1]["train/loss"])
    assert all(w.isfinite().all() for w in weights.values())
