from types import SimpleNamespace

import pytest
import torch

from runner.config import registry
from runner.core.clock import Clock
from runner.core.data import Batch

small_loss = registry.load("with", "small_loss")


def hook(n=40, step=0, **options):
    state = SimpleNamespace(clock=Clock(10, 1000), step=step, replay=False, per_sample={}, device="cpu", data=SimpleNamespace(train=range(n)))
    thing = small_loss.build(**options)
    thing.setup(state)
    return thing, state


@pytest.mark.parametrize(("epoch", "exponent", "kept"), [(1, 1, 39), (5, 1, 36), (10, 1, 32), (60, 1, 32), (4, 2, 32), (3, 2, 32), (2, 2, 36), (4, 0.5, 38)])
def test_keeps_the_smallest_losses_of_the_papers_schedule(epoch, exponent, kept):
    """forget 0.2, T_k 10: of 40 samples floor(40 R(T)) with R(T) = 1 - 0.2 min(T^c / 10, 1), worked out by hand."""
    thing, state = hook(step=(epoch - 1) * 10 + 3, forget=0.2, ramp="10ep", exponent=float(exponent))
    losses = torch.rand(40, generator=torch.Generator().manual_seed(epoch)).requires_grad_()
    result = thing.losses(state, losses, Batch(torch.zeros(40, 1), torch.zeros(40), torch.arange(40)))
    smallest = sorted(losses.tolist())[:kept]
    assert result.mean().item() == pytest.approx(sum(smallest) / kept, rel=1e-6)
    result.mean().backward()
    assert int((losses.grad > 0).sum()) == kept
    assert torch.allclose(losses.grad[losses.grad > 0], torch.tensor(1 / kept))
    assert torch.equal(state.per_sample["selected"], (losses <= max(smallest)).float())


def test_a_second_look_leaves_the_memory_alone_and_one_sample_is_always_kept():
    thing, state = hook(forget=0.9, ramp="0ep")
    state.replay = True
    one = Batch(torch.zeros(1, 1), torch.zeros(1), torch.tensor([7]))
    assert thing.losses(state, torch.tensor([2.0]), one).item() == 2.0
    assert state.per_sample["selected"].all()
