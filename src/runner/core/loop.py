"""The training loop. It knows events and phases; it has never heard of a method."""

from collections.abc import Callable

import torch

from runner.core.clock import Clock
from runner.core.data import Batch
from runner.core.events import Component, Events
from runner.core.gradients import Gradients, clipping
from runner.core.measure import Measures
from runner.core.phases import Phase, lengths, span
from runner.core.sharding import shard
from runner.core.state import State
from runner.core.trail import Trail
from runner.core.training import Training
from runner.core.weights import modules_of, optimizers_of


class Loop:
    """One training.

    Args:
        state: what the components see; its optimizer is made here, after `setup`.
        learner: the component whose object has `compute(state, batch) -> per-sample losses (B, ...)`.
        components: all that may act at events, the learner among them.
        schedule: `clock -> (step -> factor of the learning rate)`.
        measures: what is measured when.
        training: the settings.
    """

    def __init__(self, state: State, learner: Component, components: list[Component], schedule: Callable, measures: Measures, training: Training):
        self.state, self.components, self.measures, self.training = state, components, measures, training
        self.make_schedule = schedule
        self.on = Events([*components, *clipping(training)])
        self.trail = Trail(1 if state.device.type == "cpu" else training.check_every)
        if hasattr(learner.object, "predict"):
            state.predict = lambda x: learner.object.predict(state, x)
        if training.shard:
            shard(self)
        for hook in self.on.setup:
            hook(state)
        plan = next((c.object.phases for c in components if hasattr(c.object, "phases")), None)
        self.phases: list[Phase] = plan(state) if plan else [Phase("train")]
        self.lengths = lengths(self.phases, state.clock)
        state.clock = Clock(state.clock.epoch, sum(self.lengths))
        self.renew_optimizer()
        self.gradients = Gradients(state, learner, self.on, self.trail, training)
        measures.start(self)
        self.grads, self.apply = self.gradients, self.update
        for wrap in self.on.step:
            self.grads, self.apply = wrap(state, self.grads, self.apply)

    def renew_optimizer(self) -> None:
        """An optimizer for all that is trainable and that no component optimizes itself, and the schedule from this phase on."""
        state, things = self.state, [c.object for c in self.components]
        state.optimizers = [o for thing in things for o in optimizers_of(thing)]
        taken = {id(p) for p in state.parameters()}
        modules = dict.fromkeys([state.model, *(m for thing in things for m in modules_of(thing))])
        free = dict.fromkeys(p for m in modules for p in m.parameters() if p.requires_grad and id(p) not in taken)
        state.optimizer = state.make_optimizer(free) if free else None
        first, last = span(self.phases, min(state.phase, len(self.phases) - 1))  # a run that has ended is in its last phase
        self.schedule_start, total = sum(self.lengths[:first]), sum(self.lengths[first:last])
        self.factor, self.schedule = None, self.make_schedule(Clock(state.clock.epoch, total))

    def set_rate(self) -> None:
        factor = self.schedule(self.state.step - self.schedule_start)
        if factor != self.factor:
            self.factor = factor
            for optimizer in self.state.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = group["initial_lr"] * factor

    def update(self) -> None:
        """Move the weights along the gradients."""
        scale = self.gradients.scale
        if self.state.optimizer is not None and (not scale.enabled or scale.update()):
            self.state.optimizer.step()
            self.state.enforce_masks()

    def step(self, batch: Batch) -> None:
        state = self.state
        for hook in self.on.batch:
            batch = hook(state, batch) or batch
        state.batch, state.replay = batch, False
        self.set_rate()
        loss = self.grads()
        if not self.gradients.scale.overflow or self.gradients.scale.least:
            self.trail.close(state.step, loss)
            self.gradients.scale.check(state.step)
        self.apply()
        for hook in self.on.step_end:
            hook(state)
        state.enforce_masks()
        state.step, state.place = state.step + 1, state.place + 1

    def run(self, after_step: Callable[["Loop"], None] = lambda loop: None) -> dict[str, float]:
        """Train to the end.

        Args:
            after_step: called when a step and all that follows from it is done; it may save, and raise to stop.

        Returns:
            The summary: last and best value of every metric.
        """
        state = self.state
        try:
            while state.phase < len(self.phases):
                self.enter_phase()
                end = sum(self.lengths[: state.phase + 1])
                while state.step < end:
                    self.run_epoch(end, after_step)
                state.phase += 1
            return self.measures.finish(self)
        finally:
            for split in state.data.splits().values():
                split.close()

    def enter_phase(self) -> None:
        """Do what stands at the beginning of a phase, unless the run resumed inside it."""
        state, phase = self.state, self.phases[self.state.phase]
        if state.begun <= state.phase:
            state.begun = state.phase + 1
            if phase.fresh and state.phase:
                self.renew_optimizer()
            if phase.begin is not None:
                phase.begin(state)
                state.enforce_masks()
                self.measures.summary.measured_at = -1  # what was measured at this step is of the weights before

    def run_epoch(self, end: int, after_step: Callable) -> None:
        """The rest of the current epoch, or of the phase if that ends first."""
        state, train, size = self.state, self.state.data.train, self.training.batch_size
        state.model.train()
        if state.place == 0:
            for hook in self.on.epoch_start:
                hook(state)
        shuffle = torch.Generator().manual_seed(state.rng.derive("order", state.epoch))
        order = torch.randperm(len(train), generator=shuffle)[state.place * size : state.clock.epoch * size]
        for batch in train.batches(order, size, state.device, state.rng("augment", state.device), state.epoch):
            self.step(batch)
            if state.place == state.clock.epoch:
                for hook in self.on.epoch_end:
                    hook(state)
                state.epoch, state.place = state.epoch + 1, 0
                state.world.agree(self)
            self.measures.due(self)
            after_step(self)
            if state.step == end:
                break
