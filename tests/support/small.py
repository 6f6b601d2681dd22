"""A small loop on synthetic data, made by hand: the core without any component of the project."""

import os

import torch
from torch import nn

from runner.core.card import card
from runner.core.clock import Clock
from runner.core.data import Data, Info, Split
from runner.core.events import Component
from runner.core.loop import Loop
from runner.core.measure import Measures
from runner.core.rng import seed_torch
from runner.core.state import State
from runner.core.training import Training

DEVICE = torch.device(os.environ.get("RUNNER_TEST_DEVICE", "cpu"))
SETTINGS = {
    "duration": "2ep", "batch_size": 8, "eval_batch": 16, "accumulate": 1, "clip": None, "precision": "fp32", "drop_last": False, "compile": False,
    "shard": False, "channels_last": False, "deterministic": False, "eval_every": "1ep", "log_every": "1ep", "probe_every": "1ep", "checkpoint_every": 30.0,
    "check_every": 50,
}  # fmt: skip


class Plain:
    def compute(self, state, batch):
        batch.z = state.model(batch.x)
        return state.loss(batch.z, batch.t)


class Error:
    """An evaluator: share of wrong predictions."""

    splits = ("test",)

    def measure(self, state, split):
        wrong = sum((b.z.argmax(-1) != b.y).sum() for b in state.predictions(split))
        return {"error": wrong / len(split)}


def part(thing, name="with/it", **declared) -> Component:
    return Component(name, thing, card(**declared))


def loop(
    *parts,
    learner=None,
    report=lambda row: None,
    lr=0.1,
    schedule=None,
    seed=0,
    n=40,
    evaluators=None,
    model=None,
    dropout=0.0,
    weight_decay=0.0,
    world=None,
    **settings,
) -> Loop:
    """Three classes in five dimensions, one hidden layer, plain SGD with momentum; `n` samples at batch size 8."""
    training = Training(**{**SETTINGS, **settings})
    g = torch.Generator().manual_seed(7)
    x, y = torch.randn(n, 5, generator=g), torch.randint(3, (n,), generator=g)
    x[torch.arange(n), y] += 2
    data = Data(Info("classification", (5,), 3), Split(x, y), Split(x.clone(), y.clone()))
    torch.manual_seed(1)
    model = (model or nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 3))).to(DEVICE)
    epoch = -(-n // training.batch_size)
    clock = Clock(epoch, Clock(epoch, 0).steps(training.duration))
    state = State(
        model, nn.CrossEntropyLoss(reduction="none"), data.to(DEVICE), DEVICE, clock, lambda p: torch.optim.SGD(p, lr, 0.9, weight_decay=weight_decay), seed
    )
    state.world = world or state.world
    learner = learner or part(Plain(), "learner/plain")
    measures = Measures([part(e, f"eval/{type(e).__name__}") for e in (evaluators or [Error()])], [], report)
    seed_torch(seed)
    return Loop(state, learner, [learner, *parts], schedule or (lambda clock: lambda step: 1.0), measures, training)


def weights(made: Loop) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in made.state.model.parameters()])


def trained(*parts, **settings) -> torch.Tensor:
    made = loop(*parts, **settings)
    made.run()
    return weights(made)
