import pytest
import torch

from runner.components.optimizer.lion import build


def sign(v):
    return (v > 0) - (v < 0)


def test_by_hand():
    """Chen et al., algorithm 2, in plain Python; the third gradient is outvoted by the momentum."""
    w = torch.nn.Parameter(torch.tensor([1.0], dtype=torch.double))
    optimizer = build(lr=0.1, beta1=0.9, beta2=0.6, weight_decay=0.5)([w])
    x, m, moves = 1.0, 0.0, []
    for g in (2.0, 0.5, -2.0, 0.0):
        w.grad = torch.tensor([g], dtype=torch.double)
        optimizer.step()
        direction = sign(0.9 * m + 0.1 * g)
        x, m = x - 0.1 * (direction + 0.5 * x), 0.6 * m + 0.4 * g
        moves.append(direction)
        assert w.item() == pytest.approx(x, rel=1e-12)
        assert optimizer.state[w]["momentum"].item() == pytest.approx(m, rel=1e-12)
    assert moves == [1, 1, 1, -1]


def test_every_weight_moves_by_the_learning_rate():
    g = torch.Generator().manual_seed(0)
    shapes = ((3, 4), (5,))
    ws = [torch.nn.Parameter(torch.randn(s, generator=g)) for s in shapes]
    unused = torch.nn.Parameter(torch.ones(2))
    before = [w.detach().clone() for w in ws]
    optimizer = build(lr=1e-2)([*ws, unused])
    for w in ws:
        w.grad = torch.randn(w.shape, generator=g)
    optimizer.step()
    for w, b in zip(ws, before, strict=True):
        assert torch.allclose(w - b, -1e-2 * w.grad.sign(), atol=1e-7)
    assert torch.equal(unused, torch.ones(2))
    assert unused not in optimizer.state
    assert sum(t.numel() for s in optimizer.state.values() for t in s.values()) == 17  # one buffer a weight


def test_state_is_saved_and_goes_on():
    def steps(optimizer, w, gradients):
        for g in gradients:
            w.grad = torch.tensor([g])
            optimizer.step()

    one = torch.nn.Parameter(torch.tensor([1.0]))
    straight = build(lr=0.1)([one])
    steps(straight, one, (1.0, -0.05, -0.02))
    two = torch.nn.Parameter(torch.tensor([1.0]))
    first = build(lr=0.1)([two])
    steps(first, two, (1.0,))
    second = build(lr=0.5)([two])
    second.load_state_dict(first.state_dict())
    steps(second, two, (-0.05, -0.02))
    assert torch.equal(one, two)
