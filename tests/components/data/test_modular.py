"""modular: every equation once, each of them true; the splits are disjoint and have their share."""

import pytest
import torch

from runner.components.data.modular import build

TRUE = {
    "add": lambda a, b, c, p: (a + b - c) % p == 0,
    "subtract": lambda a, b, c, p: (a - b - c) % p == 0,
    "multiply": lambda a, b, c, p: (a * b - c) % p == 0,
    "divide": lambda a, b, c, p: (c * b - a) % p == 0 and b != 0,
}


@pytest.mark.parametrize("operation", list(TRUE))
def test_all_equations_and_only_true_ones(operation):
    p = 11
    data = build(modulus=p, operation=operation, share=0.3)
    rows = [(*x, *y) for s in (data.train, data.test) for x, y in zip(s.x.tolist(), s.y.tolist(), strict=True)]
    count = p * p if operation != "divide" else p * (p - 1)
    assert len({r[:2] for r in rows}) == len(rows) == count
    assert all(TRUE[operation](a, b, c, p) and equals == p and 0 <= c < p for a, b, equals, c in rows)
    assert abs(len(data.train) - 0.3 * count) <= 0.5


def test_the_setting_of_the_paper():
    data = build()
    assert (data.info.task, data.info.shape, data.info.outputs, data.info.predicted) == ("language", (3,), 98, 1)
    assert (len(data.train), len(data.test)) == (4705, 4704)
    assert data.train.y.shape == (4705, 1)
    assert torch.equal(data.train.x, build().train.x)
    assert not torch.equal(data.train.x[:99], build(split=1).train.x[:99])


def test_division_needs_a_prime():
    with pytest.raises(ValueError, match="prime"):
        build(modulus=12, operation="divide")
