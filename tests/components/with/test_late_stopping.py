"""Rounds against a plain count of epochs by hand, and on a small run that each begins where the first one did."""

import importlib
from types import SimpleNamespace

import torch
from small import loop, part, weights

from runner.core.clock import Clock
from runner.core.data import Batch

late = importlib.import_module("runner.components.with.late_stopping")
RUNGS = {"batch": "select"}


class Scripted:
    """A state whose network fits, in each epoch, the samples that a table says."""

    def __init__(self, fits):
        n = len(fits[0])
        self.fits, self.step, self.phase, self.epoch_now, self.begun_again = fits, 0, 0, 0, 0
        self.clock, self.device, self.per_sample, self.optimizers = Clock(10, 1000), "cpu", {}, []
        self.data = SimpleNamespace(train=range(n))
        self.model = torch.nn.Linear(1, 1)

    def predictions(self, split):
        right = torch.tensor(self.fits[self.epoch_now])
        y = torch.ones(len(split), dtype=torch.long)
        yield Batch(torch.zeros(len(split), 1), y, torch.arange(len(split)), z=torch.stack([1 - right, right], 1).float())

    def forget_predictions(self):
        pass

    def load_weights(self, weights, anew):
        self.begun_again += 1

    def run(self, hook):
        """What is selected after each epoch."""
        hook.setup(self)
        for epoch in range(len(self.fits)):
            self.epoch_now, self.step = epoch, self.step + 10
            hook.epoch_end(self)
            yield self.per_sample["selected"].int().tolist()


def test_a_round_ends_when_enough_samples_were_fitted_once():
    fits = [[1, 0, 0, 0], [1, 0, 0, 1], [0, 0, 1, 0], [1, 1, 1, 1]]  # the warm-up's first epoch does not count
    state = Scripted(fits)
    kept = list(state.run(late.build(keep=0.75, rounds=[1], warmup="1ep")))
    assert kept == [[1, 1, 1, 1], [1, 1, 1, 1], [1, 0, 1, 1], [1, 0, 1, 1]]
    assert state.begun_again == 1


def test_the_second_kind_of_round_wants_two_epochs_in_a_row_among_what_is_left():
    fits = [
        [1, 1, 0, 1],  # round 1, k = 1: 3 of 4 are learned
        [1, 0, 1, 1],  # round 2, k = 2: a new network, so no streak is carried over, and the third sample is gone
        [0, 1, 1, 1],
        [1, 1, 1, 0],
        [1, 1, 1, 1],
    ]
    kept = list(Scripted(fits).run(late.build(keep=0.75, rounds=[1, 1], warmup="0ep")))
    # 4 * 0.75^2 = 2.25: two samples must have a streak of 2; the fourth has it after epoch 3, the second after epoch 4
    assert kept == [[1, 1, 0, 1]] * 3 + [[0, 1, 0, 1]] * 2


def test_dropped_samples_are_not_trained_on_and_rounds_begin_alike():
    # after a long selection nothing but the weights at the start and the kept samples may matter to the final network
    hook = late.build(keep=0.8, rounds=[2], warmup="1ep", selection="30ep")
    seen, begun = [], []

    def look(training):
        state = training.state
        kept = state.per_sample["selected"] > 0
        if state.place:  # an epoch's last step may have changed what is selected
            seen.append(bool(kept[state.batch.i].all()) or not state.batch.w.any())
        if state.step == hook.since and hook.since:
            begun.append((weights(training), sum(len(o.state) for o in state.optimizers)))

    training = loop(part(hook, "with/late_stopping", rung=RUNGS, owns=("phases",)), duration="40ep", lr=0.3)
    start = weights(training)
    training.run(look)
    assert hook.round == 2
    assert len(begun) == 2
    assert all(torch.equal(w, start) and momenta == 0 for w, momenta in begun)
    assert all(seen)
    assert 0.64 * 40 - 1 <= training.state.per_sample["selected"].sum() < 40


def test_a_batch_without_kept_samples_weighs_nothing():
    hook = late.build()
    state = SimpleNamespace(per_sample={"selected": torch.tensor([0.0, 1.0, 0.0])})
    batch = Batch(torch.zeros(2, 1), torch.tensor([0, 1]), torch.tensor([0, 2]))
    assert hook.batch(state, batch).w.tolist() == [0, 0]
    batch = Batch(torch.arange(3.0)[:, None], torch.tensor([0, 1, 2]), torch.tensor([2, 1, 0]))
    assert hook.batch(state, batch).i.tolist() == [1]
