"""The average against its sum written out, over weights noted after each step; masks hold on it."""

import importlib

import pytest
import torch
from small import loop, part, trained, weights

module = importlib.import_module("runner.components.with.ema")
build, CARD = module.build, module.CARD


class Path:
    """An evaluator and hook that notes the weights after each step, and those that are evaluated."""

    splits = ("test",)

    def __init__(self):
        self.steps, self.evaluated = [], []

    def step_end(self, state):
        self.steps.append(torch.cat([p.detach().flatten() for p in state.model.parameters()]))

    def measure(self, state, split):
        self.evaluated.append(torch.cat([p.detach().flatten() for p in state.model.parameters()]))
        return {"zero": 0.0}


def run(decay, **settings):
    path = Path()
    made = loop(part(build(decay), "with/ema", rung=CARD.rung), part(path, "with/path", rung={"step_end": "mask"}), evaluators=[path], **settings)
    made.run()
    return made, path


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9])
def test_the_average_written_out(decay):
    made, path = run(decay, duration="12it")
    average = torch.zeros_like(path.steps[0])
    for t, w in enumerate(path.steps):
        d = min(decay, t / (t + 1))
        average = d * average + (1 - d) * w
    assert torch.allclose(path.evaluated[-1], average, atol=1e-6)
    assert torch.equal(weights(made), path.steps[-1])  # the weights themselves come back


def test_a_long_memory_is_the_plain_mean():
    _, path = run(0.9999, duration="12it")
    assert torch.allclose(path.evaluated[-1], torch.stack(path.steps).mean(0), atol=1e-6)


def test_training_goes_on_as_without_it():
    assert torch.equal(trained(part(build(0.9), "with/ema", rung=CARD.rung)), trained())


def test_masks_hold_on_the_average():
    """The mask closes in the middle of the run, when the average has long seen other weights there."""
    g = torch.Generator().manual_seed(0)

    class Prune:
        def step_end(self, state):
            if state.step == 5:
                state.masks["0.weight"] = (torch.rand(8, 5, generator=g) < 0.5).float()

    path = Path()
    made = loop(part(build(0.99), "with/ema", rung=CARD.rung), part(Prune(), "sparsity/prune", rung={"step_end": "mask"}), evaluators=[path], duration="10it")
    made.run()
    closed = made.state.masks["0.weight"].flatten() == 0
    assert closed.any()
    assert not path.evaluated[-1][:40][closed].any()
    average = next(c.object for c in made.components if c.name == "with/ema").average["0.weight"].flatten()
    assert average[closed].any()  # without the masks it would not be sparse
