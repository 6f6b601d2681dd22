"""A training that begins anew in a later phase: what remembers the weights of before forgets them."""

import importlib

import pytest
import small
import torch

from runner.core.phases import Phase

build = {name: importlib.import_module(f"runner.components.with.{name}").build for name in ("ema", "weight_averaging", "lookahead", "early_stopping")}
CARDS = {
    "ema": {"rung": {"step_end": "average"}},
    "weight_averaging": {"rung": {"step_end": "average"}},
    "lookahead": {"rung": {"step": "average"}},
    "early_stopping": {"rung": {"batch": "select", "step_end": "average"}},
}


class Again:
    """Trains for ten steps, then again from the first weights."""

    def phases(self, state):
        return [Phase("first", "10it", self.keep), Phase("again", None, lambda state: state.load_weights(self.start, anew=True), fresh=True)]

    def keep(self, state):
        self.start = state.weights()


def evaluated(loop):
    """The weights that an evaluation sees."""
    for hook in loop.on.eval_enter:
        hook(loop.state)
    found = small.weights(loop)
    for hook in loop.on.eval_exit:
        hook(loop.state)
    return found


def trained(hook, *parts, **settings):
    """What is evaluated after each step."""
    seen = []
    made = small.loop(small.part(hook, "with/hook", **CARDS[settings.pop("name")]), *parts, **settings)
    made.run(lambda loop: seen.append(evaluated(loop)))
    return seen


@pytest.mark.parametrize(
    ("name", "options"), [("ema", {"decay": 0.9}), ("lookahead", {"k": 3, "alpha": 0.5}), ("weight_averaging", {"start": 0.0, "every": "1it"})]
)
def test_the_second_training_is_evaluated_like_the_first(name, options):
    """On batches of all samples, so that the second sees what the first saw."""
    seen = trained(build[name](**options), small.part(Again(), "with/again", owns=("phases",)), name=name, duration="20it", n=8)
    assert not torch.allclose(seen[0], seen[9], atol=1e-2)
    assert all(torch.allclose(first, again, atol=1e-5) for first, again in zip(seen[:10], seen[10:], strict=True))


def test_the_second_training_has_a_teacher_of_its_own():
    learner, seen = importlib.import_module("runner.components.learner.mean_teacher").build(weight=20.0, decay=0.9, ramp="5it", sigma=0.0), []
    again = small.part(Again(), "with/again", owns=("phases",))
    made = small.loop(again, learner=small.part(learner, "learner/mean_teacher", rung={"step_end": "average"}), duration="20it", n=8)
    x = made.state.data.test.x
    made.run(lambda loop: seen.append(loop.state.predict(x).detach()))
    assert not torch.allclose(seen[0], seen[9], atol=1e-2)
    assert all(torch.allclose(first, second, atol=1e-5) for first, second in zip(seen[:10], seen[10:], strict=True))


def test_the_best_weights_are_those_of_the_last_training():
    hook = build["early_stopping"](holdout=0.2)
    made = small.loop(small.part(hook, "with/early_stopping", **CARDS["early_stopping"]), small.part(Again(), "with/again", owns=("phases",)), duration="20it")
    hook.score = lambda state: 100.0 - state.step  # the first epoch of all is the best
    kept = {}
    made.run(lambda loop: kept.update({loop.state.step: small.weights(loop)}))
    assert hook.best == 100.0 - 14  # the first epoch's end of the second training
    assert torch.equal(small.weights(made), kept[15])
