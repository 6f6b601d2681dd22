import pytest
import torch

from runner.components.noise.crowd import build
from runner.core.data import Data, Info, Split


def test_chances_of_each_answer():
    """Workers of one ability: frequencies over many tasks are p q + (1 - p) / C, p (1 - q) + (1 - p) / C and (1 - p) / C."""
    n, classes, q = 40000, 4, 0.7
    split = Split(torch.zeros(n, 1), torch.arange(n) % classes)
    build(workers=2, answers=1, ability=[4e6, 1e6], clarity=[q, q])(Data(Info("classification", (1,), classes), split, split), torch.Generator().manual_seed(0))
    answers, p = split.side["answers"], 0.8
    assert ((answers >= 0).sum(1) == 1).all()
    assert abs((answers[:, 0] >= 0).double().mean() - 0.5) < 0.012
    said = answers.max(1)[0]
    bound = 4 * (0.25 / n) ** 0.5
    assert abs((said == split.clean).double().mean() - (p * q + 0.05)) < bound
    assert abs((said == split.side["confusing"]).double().mean() - (p * (1 - q) + 0.05)) < bound
    assert not (split.side["confusing"] == split.clean).any()
    assert torch.equal(split.y, said)  # one vote is a majority


def test_the_label_is_the_majoritys():
    split = Split(torch.zeros(300, 1), torch.arange(300) % 3)
    build(workers=9, answers=5)(Data(Info("classification", (1,), 3), split, split), torch.Generator().manual_seed(0))
    for k in range(300):
        counts = [(split.side["answers"][k] == c).sum().item() for c in range(3)]
        assert counts[split.y[k]] == max(counts)


@pytest.mark.parametrize("options", [{"ability": [1.0]}, {"ability": [1.0, 2.0, 3.0]}, {"clarity": [0.6]}, {"clarity": [0.9, 0.6]}])
def test_two_numbers_each(options):
    with pytest.raises(ValueError, match=f"^{next(iter(options))}"):
        build(**options)
