"""The weights of the best epoch against a record kept from outside, and that held-out samples are not trained on."""

import importlib
from types import SimpleNamespace

import pytest
import torch
from small import loop, part, weights

from runner import contracts
from runner.core.data import Split
from runner.core.errors import UserError

build = importlib.import_module("runner.components.with.early_stopping").build
RUNGS = {"batch": "select", "step_end": "average"}


def stopping(**options):
    return part(build(**options), "with/early_stopping", rung=RUNGS)


def with_validation(y):
    """A `setup` that gives the data a validation split, before the hook looks for one."""

    def setup(state):
        state.data.val = Split(state.data.train.x.clone(), y.clone())

    return part(SimpleNamespace(setup=setup), "with/a_split")


@pytest.mark.parametrize("duration", ["8ep", "37it"])
def test_it_ends_with_the_weights_of_the_best_epoch(duration):
    g = torch.Generator().manual_seed(3)
    labels, record = torch.randint(3, (40,), generator=g), []

    def look(training):
        state = training.state
        if (state.place == 0 or state.step == state.clock.total) and state.step < state.clock.total:
            state.model.eval()
            right = (state.model(state.data.val.x).argmax(-1) == labels).sum().item()
            state.model.train()
            record.append((right, weights(training)))

    made = loop(with_validation(labels), stopping(holdout=0.0), duration=duration, dropout=0.3, lr=0.3)
    made.run(look)
    plain = loop(duration=duration, dropout=0.3, lr=0.3)
    plain.run()
    last = (plain.state.model.eval()(made.state.data.val.x).argmax(-1) == labels).sum().item()
    record.append((last, weights(plain)))  # the last epoch's own weights: validating changes no training
    best = max(score for score, _ in record)
    expected = next(w for score, w in record if score == best)
    assert best > min(score for score, _ in record)
    assert torch.equal(weights(made), expected)


def test_held_out_samples_change_nothing():
    def ends(shift):
        made = loop(stopping(holdout=0.25), duration="3ep")
        held = made.on.batch[0].__self__.held
        assert held.sum() == 10
        made.state.data.train.x[held] += shift
        made.on.step_end.clear()  # their labels may choose the epoch, but not the way there
        made.run()
        return weights(made)

    assert torch.equal(ends(0.0), ends(5.0))


def test_a_batch_of_held_out_samples_weighs_nothing():
    made = loop(stopping(holdout=0.9), batch_size=1, duration="40it")
    made.run()
    assert torch.isfinite(weights(made)).all()


@pytest.mark.parametrize(("learner", "options"), [("co_teaching_plus", {"predictor": "mean"}), ("nmtune", {})])
def test_what_a_learner_trains_beside_the_model_comes_back_too(learner, options):
    tree = contracts.config("learner", learner, options, batch_size=100)
    tree = {**tree, "noise": "symmetric", "optimizer": {"name": "sgd", "lr": 0.3}, "with": {"early_stopping": {"name": "early_stopping", "holdout": 0.3}}}
    made = contracts.start(tree)
    hook = next(c.object for c in made.components if c.name == "with/early_stopping")
    made.run()
    assert hook.score(made.state) == hook.best


def test_nothing_to_validate_on():
    with pytest.raises(UserError, match="holdout"):
        loop(stopping(holdout=0.0))
    with pytest.raises(UserError, match="holds out none of the 40"):
        loop(stopping(holdout=0.02))  # all epochs would be equal, and the first be taken
