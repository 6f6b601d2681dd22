"""The gradients of one batch: forward, per-sample losses, penalties, backward; in pieces and in mixed precision where asked."""

import contextlib

import torch
from torch import Tensor

from runner.core.card import card
from runner.core.data import Batch
from runner.core.events import Component, Events
from runner.core.precision import LossScale, autocast
from runner.core.state import State
from runner.core.trail import Trail
from runner.core.training import Training


class Clip:
    """Scales the gradients down to a largest norm of all together, after what changes their direction and before noise is added."""

    def __init__(self, norm: float):
        self.norm = norm

    def grads(self, state: State) -> None:
        torch.nn.utils.clip_grad_norm_(state.parameters(), self.norm)


def clipping(training: Training) -> list[Component]:
    """The component that clips the gradients, where the run does."""
    return [] if training.clip is None else [Component("trainer/clip", Clip(training.clip), card(rung={"grads": "clip"}))]


class Gradients:
    """Called once a step, or more often by an optimizer that looks twice. Leaves gradients in `.grad` and returns the loss."""

    def __init__(self, state: State, learner: Component, on: Events, trail: Trail, training: Training):
        self.state, self.learner, self.on, self.trail, self.training = state, learner, on, trail, training
        self.autocast = autocast(training.precision, state.device)
        self.scale = LossScale(training.precision == "fp16")

    def __call__(self) -> Tensor:
        state, total = self.state, None
        self.trail.parts = []
        for optimizer in state.optimizers:
            optimizer.zero_grad(set_to_none=True)
        pieces = state.world.pieces(state.batch, self.training.accumulate)
        for k, batch in enumerate(pieces):
            with self.autocast(), contextlib.nullcontext() if batch is state.batch else self.stream(k):
                loss = self.loss(batch)
            if batch is not state.batch:
                loss = loss * (len(batch.i) / len(state.batch.i))
            (loss * self.scale.scale if self.scale.enabled else loss).backward()
            total = loss.detach() if total is None else total + loss.detach()
        if state.world.size > 1:
            rows = torch.cat([batch.i for batch in pieces]) if pieces else state.batch.i[:0]
            total = state.world.share(state, torch.zeros((), device=state.device) if total is None else total, rows)
        if self.scale.enabled:
            self.scale.unscale(state.parameters())
        for hook in self.on.grads:
            hook(state)
        state.replay = True
        return total

    @contextlib.contextmanager
    def stream(self, k: int):
        """torch's own random numbers for the k-th piece of this process: those of the piece, whichever process has it."""
        state = self.state
        with torch.random.fork_rng(devices=[state.device] if state.device.type == "cuda" else []):
            torch.manual_seed(state.rng.derive("torch", state.step, int(state.replay), state.world.rank + k * state.world.size))
            yield

    def loss(self, batch: Batch) -> Tensor:
        """The scalar loss of a batch: weighted mean of the per-sample losses, plus penalties."""
        state, trail = self.state, self.trail
        losses = self.learner.object.compute(state, batch)
        losses = losses.flatten(1).mean(1) if losses.dim() > 1 else losses
        trail.add(self.learner.name, losses, batch.i)
        for name, hook in zip(self.on.names["losses"], self.on.losses, strict=True):
            losses = hook(state, losses, batch)
            trail.add(name, losses, batch.i)
        loss = losses.mean() if batch.w is None else (batch.w * losses).mean()
        for name, hook in zip(self.on.names["penalty"], self.on.penalty, strict=True):
            penalty = hook(state, batch)
            trail.add(name, penalty, batch.i)
            loss = loss + penalty
        return loss
