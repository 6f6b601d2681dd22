"""diabetes: scikit-learn's table; features and values standardised by the training rows."""

import torch
from sklearn.datasets import load_diabetes

from runner.components.data.diabetes import build


def test_it_is_the_table(same_table):
    x, y = load_diabetes(return_X_y=True)
    data = build(val=0.2)
    same_table(data, x, y)
    outputs = 1 if y.ndim == 1 else y.shape[1]
    assert data.info.task == "regression"
    assert data.train.y.shape[1] == data.info.outputs == outputs
    assert torch.allclose(data.train.y.mean(0), torch.zeros(outputs), atol=1e-5)
    assert torch.allclose(data.train.y.std(0), torch.ones(outputs), atol=1e-4)
    assert data.train.y.dtype == torch.float32


def test_what_is_constant_in_training_is_not_blown_up_elsewhere():
    data = build(train_size=6, split=23)  # all six are of one sex, column 1
    assert not data.train.x[:, 1].any()
    assert (data.train.x.std(0) > 0.9).sum() == 9
    assert set(data.test.x[:, 1].tolist()) <= {-1.0, 0.0, 1.0}
    one = build(train_size=1)
    assert not one.train.x.any()
    assert not one.train.y.any()
    assert 60 < one.test.y.std() < 90  # moved, not divided: the progression's own deviation is 77
