import pytest
import torch

from runner.components.noise.privileged import build
from runner.core.data import Data, Info, Split


def told(**options):
    split = Split(torch.zeros(6, 1), torch.tensor([0, 1, 2, 0, 1, 2]))
    split.relabel(torch.tensor([0, 2, 2, 0, 0, 2]))
    build(**options)(Data(Info("classification", (1,), 3), split, split), torch.Generator().manual_seed(0))
    return split.side["privileged"]


def test_columns():
    assert told().tolist() == [[0], [1], [0], [0], [1], [0]]
    assert told(label=True)[1].tolist() == [1, 0, 0, 1]
    assert told(indicator=False, label=True)[4].tolist() == [1, 0, 0]
    assert told(label=True, certainty=0.0).abs().sum() == 0
    with pytest.raises(ValueError, match="no privileged information"):
        told(indicator=False)
