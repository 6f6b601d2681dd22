"""The loop against a loop written by hand, and its settings against their definitions."""

import math

import pytest
import small
import torch
from torch import nn

from runner.core.errors import NotFinite, UserError
from runner.core.parallel import World
from runner.core.phases import Phase
from runner.core.rng import derive


def by_hand(epochs=2, factor=lambda step: 1.0, clip=None):
    """The same training as `small.loop`, with nothing but torch."""
    reference = small.loop()
    model, data = reference.state.model, reference.state.data.train
    optimizer = torch.optim.SGD(model.parameters(), 0.1, 0.9)
    step = 0
    for epoch in range(epochs):
        order = torch.randperm(len(data), generator=torch.Generator().manual_seed(derive(0, "order", epoch)))
        for rows in order.split(8):
            optimizer.param_groups[0]["lr"] = 0.1 * factor(step)
            loss = nn.functional.cross_entropy(model(data.x[rows]), data.y[rows])
            optimizer.zero_grad()
            loss.backward()
            if clip:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            step += 1
    return small.weights(reference)


def test_plain_training_is_the_hand_written_loop():
    assert torch.equal(small.trained(), by_hand())


def test_schedule_sets_the_rate_of_each_step():
    factor = lambda step: 1 / (1 + step)
    assert torch.equal(small.trained(schedule=lambda clock: factor), by_hand(factor=factor))


def test_clip():
    assert torch.equal(small.trained(clip=0.1), by_hand(clip=0.1))
    assert not torch.equal(by_hand(clip=0.1), by_hand())


def test_accumulation_gives_the_whole_batch_gradient():
    whole, pieces = small.trained(n=39), small.trained(n=39, accumulate=3)
    assert torch.allclose(whole, pieces, atol=1e-6)
    assert small.loop(accumulate=3).training.accumulate == 3


def test_duration_in_steps_ends_within_an_epoch():
    made = small.loop(duration="7it")
    made.run()
    assert (made.state.step, made.state.epoch, made.state.place) == (7, 1, 2)


def test_weights_of_samples_weigh_the_losses():
    class Half:
        def batch(self, state, batch):
            batch.w = (batch.i % 2 == 0).float()

    class HalfLosses:
        def losses(self, state, losses, batch):
            return losses * (batch.i % 2 == 0)

    one = small.trained(small.part(Half(), rung={"batch": "select"}))
    other = small.trained(small.part(HalfLosses(), rung={"losses": "select"}))
    assert torch.allclose(one, other, atol=1e-7)
    assert not torch.allclose(one, small.trained(), atol=1e-3)


def test_penalty_is_added_to_the_mean_loss():
    class Decay:
        def penalty(self, state, batch):
            return 0.05 * sum((p**2).sum() for p in state.model.parameters())

    assert torch.allclose(small.trained(small.part(Decay())), small.trained(weight_decay=0.1), atol=1e-6)
    assert not torch.allclose(small.trained(small.part(Decay())), small.trained(), atol=1e-3)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_is_near_full_precision(precision):
    full, mixed = small.trained(), small.trained(precision=precision)
    assert not torch.equal(full, mixed)
    assert torch.allclose(full, mixed, atol=0.05)


def test_compiled_model_trains_the_same():
    class Count:
        calls = 0

        def setup(self, state):
            state.model.compile(backend="eager")

    assert torch.allclose(small.trained(small.part(Count())), small.trained(), atol=1e-6)


class Poison:
    """Makes the loss of sample 11 infinite, or that of a penalty, from a step on."""

    def __init__(self, where):
        self.where = where

    def losses(self, state, losses, batch):
        return torch.where((batch.i == 11) & (state.step >= 5), math.inf, losses) if self.where == "losses" else losses

    def penalty(self, state, batch):
        return torch.tensor(math.nan if self.where == "penalty" and state.step == 3 else 0.0)


def test_an_infinite_loss_names_step_component_and_sample():
    made = small.loop(small.part(Poison("losses"), "with/poison", rung={"losses": "weigh"}))
    before = []
    with pytest.raises(NotFinite) as caught:
        made.run(lambda loop: before.append(small.weights(loop)))
    assert caught.value.record["component"] == "with/poison"
    assert caught.value.record["samples"] == [11]
    assert 5 <= caught.value.record["step"] < 10
    assert torch.equal(before[-1], small.weights(made)), "the weights moved after the loss was lost"


def test_a_penalty_that_is_nan_is_named():
    made = small.loop(small.part(Poison("penalty"), "with/poison", rung={"losses": "weigh"}))
    with pytest.raises(NotFinite, match="step 3, first in with/poison"):
        made.run()


def test_late_look_still_names_the_right_step():
    made = small.loop(small.part(Poison("losses"), "with/poison", rung={"losses": "weigh"}))
    made.trail.every = 4
    with pytest.raises(NotFinite) as caught:
        made.run()
    reference = small.loop(small.part(Poison("losses"), "with/poison", rung={"losses": "weigh"}))
    with pytest.raises(NotFinite) as exact:
        reference.run()
    assert caught.value.record == exact.value.record


def test_loss_scale_skips_a_step_that_overflows():
    made = small.loop(precision="fp16", duration="4it")
    made.gradients.scale.scale = 2.0**40
    before = small.weights(made)
    seen = []
    made.run(lambda loop: seen.append((loop.gradients.scale.scale, bool(torch.equal(small.weights(loop), before)))))
    assert seen[0] == (2.0**39, True)
    assert made.gradients.scale.scale < 2.0**39


def test_where_no_loss_scale_helps_the_run_stops():
    class Steep:
        def penalty(self, state, batch):
            return (0 * state.model[0].weight).sqrt().sum()  # 0, and its slope nan

    made = small.loop(small.part(Steep(), "with/steep"), precision="fp16", duration="400it")
    with pytest.raises(NotFinite, match="its gradients are not at step 15, first in fp16"):  # 2^15 halved fifteen times
        made.run()

    class Endless(Steep):
        def penalty(self, state, batch):
            return math.inf * state.model[0].weight.square().sum()

    with pytest.raises(NotFinite, match="loss is inf at step 15, first in with/endless"):
        small.loop(small.part(Endless(), "with/endless"), precision="fp16", duration="400it").run()


def test_a_piece_draws_its_own_random_numbers_whichever_process_has_it():
    def draws(world, parts):
        made = small.loop(world=world)
        for k in range(parts):
            with made.gradients.stream(k):
                yield torch.rand(3)

    whole = list(draws(World(), 4))
    shared = [list(draws(World(rank, 2), 2)) for rank in range(2)]
    assert [d.tolist() for pair in zip(*shared, strict=True) for d in pair] == [d.tolist() for d in whole]
    assert len({tuple(d.tolist()) for d in whole}) == 4
    made = small.loop(dropout=0.5, accumulate=2, duration="2it")
    state = torch.get_rng_state()
    made.run()
    assert torch.equal(torch.get_rng_state(), state), "pieces leave torch's own stream alone"


def test_phases_that_leave_nothing_for_the_others_are_refused():
    class Two:
        def phases(self, state):
            return [Phase("warm-up", "40it"), Phase("rest")]

    with pytest.raises(UserError, match=r"trainer.duration is 20 steps: phase 'warm-up' \(40 steps\) leaves nothing of them for phase 'rest'"):
        small.loop(small.part(Two(), owns=("phases",)), duration="20it")


def test_phases_begin_once_and_in_order():
    class Three:
        def __init__(self):
            self.log = []

        def phases(self, state):
            note = lambda name: lambda state: self.log.append((name, state.step))
            return [Phase("a", "3it", note("a")), Phase("zero", "0it", note("zero")), Phase("rest", None, note("rest"), fresh=True)]

    three = Three()
    made = small.loop(small.part(three, owns=("phases",)), schedule=lambda clock: lambda step: 1 - step / clock.total)
    rates = []
    made.run(lambda loop: rates.append(loop.state.optimizer.param_groups[0]["lr"]))
    assert three.log == [("a", 0), ("zero", 3), ("rest", 3)]
    assert made.state.step == 10
    expected = [0.1 * (1 - k / 3) for k in range(3)] + [0.1 * (1 - k / 7) for k in range(7)]
    assert rates == pytest.approx(expected)


def test_what_a_last_phase_without_a_step_does_is_measured():
    class Forget:
        def phases(self, state):
            return [Phase("train"), Phase("forget", "0it", self.forget)]

        @torch.no_grad()
        def forget(self, state):
            torch._foreach_zero_(list(state.model.parameters()))

    made = small.loop(small.part(Forget(), owns=("phases",)))
    found = made.run()["test/error_last"]
    assert found == (made.state.data.test.y != 0).float().mean(), "all are told the first class"
    assert made.run()["test/error_last"] == found
    assert made.measures.summary.measured_at == made.state.step


def test_phases_longer_than_the_run_make_the_run_longer():
    class Long:
        def phases(self, state):
            return [Phase("a", "3ep"), Phase("b", "1ep")]

    made = small.loop(small.part(Long(), owns=("phases",)))
    made.run()
    assert made.state.epoch == 4
