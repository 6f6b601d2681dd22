"""linnerud: scikit-learn's table; features and values standardised by the training rows."""

import torch
from sklearn.datasets import load_linnerud

from runner.components.data.linnerud import build


def test_it_is_the_table(same_table):
    x, y = load_linnerud(return_X_y=True)
    data = build(val=0.2)
    same_table(data, x, y)
    outputs = 1 if y.ndim == 1 else y.shape[1]
    assert data.info.task == "regression"
    assert data.train.y.shape[1] == data.info.outputs == outputs
    assert torch.allclose(data.train.y.mean(0), torch.zeros(outputs), atol=1e-5)
    assert torch.allclose(data.train.y.std(0), torch.ones(outputs), atol=1e-4)
    assert data.train.y.dtype == torch.float32
