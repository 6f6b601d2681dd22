"""Measuring a run: evaluators and probes at their times, one row of metrics each time, and the summary of last and best values."""

import contextlib
from collections.abc import Callable

import torch

from runner.core.clock import steps
from runner.core.errors import UserError
from runner.core.events import Component


class Summary:
    """The last and the best value of every metric that an evaluator has measured. Papers mean different ones."""

    def __init__(self):
        self.last: dict[str, float] = {}
        self.best: dict[str, float] = {}
        self.measured_at = -1

    def note(self, name: str, value: float, better: str | None) -> None:
        self.last[name] = value
        if better and (name not in self.best or (value > self.best[name] if better == "max" else value < self.best[name])):
            self.best[name] = value

    def flat(self) -> dict[str, float]:
        return {**{f"{k}_last": v for k, v in self.last.items()}, **{f"{k}_best": v for k, v in self.best.items()}}


class Measures:
    """What is measured when.

    Args:
        evaluators, probes: components whose object has `splits` (names) and `measure(state, split) -> {metric: value}`.
        every: `eval`, `log` and `probe` -> duration between two of them.
        report: called with each row, `{"step": ..., "epoch": ..., "train/loss": ..., "test/acc": ...}`.
    """

    def __init__(self, evaluators: list[Component], probes: list[Component], every: dict[str, str], report: Callable[[dict], None]):
        self.evaluators, self.probes, self.every, self.report = evaluators, probes, every, report
        self.summary = Summary()

    def check(self, splits) -> None:
        """Raises UserError where an evaluator wants a split that the data has not."""
        for component in [*self.evaluators, *self.probes]:
            if missing := [s for s in component.object.splits if s not in splits]:
                raise UserError(f"{component.name} measures on '{missing[0]}', which this data has not: {', '.join(splits)}")

    def due(self, loop) -> None:
        """After a step: measure and report what is due."""
        step, epoch = loop.state.step, loop.state.clock.epoch
        due = {kind: step % steps(length, epoch) == 0 for kind, length in self.every.items()}
        if any(due.values()):
            self.row(loop, due["eval"], due["probe"])

    def finish(self, loop) -> dict[str, float]:
        """Measure at the end, unless just done, and sum up."""
        if self.summary.measured_at != loop.state.step:
            self.row(loop, True, bool(self.probes))
        return self.summary.flat()

    def row(self, loop, evaluate: bool, probe: bool) -> None:
        state, found = loop.state, {}
        if (loss := loop.trail.mean()) is not None:
            found["train/loss"] = loss
        if state.optimizer is not None:
            found["lr"] = state.optimizer.param_groups[0]["lr"]
        if evaluate or (probe and self.probes):
            chosen = [*(self.evaluators if evaluate else ()), *(self.probes if probe else ())]
            found.update(self.measure(loop, chosen))
        if evaluate:
            self.summary.measured_at = state.step
        state.metrics.update(found)
        self.report({"step": state.step, "epoch": round(state.step / state.clock.epoch, 4), **found})

    def measure(self, loop, components: list[Component]) -> dict[str, float]:
        """Run evaluators. Training goes on afterwards as if they had not been there: mode, weights and random streams."""
        state, found = loop.state, {}
        devices = [state.device] if state.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            for hook in loop.on.eval_enter:
                hook(state)
            state.enforce_masks()
            state.forget_predictions()
            training = state.model.training
            state.model.eval()
            for component in components:
                gradients = component in self.probes
                with contextlib.nullcontext() if gradients else torch.no_grad():
                    for name in component.object.splits:
                        for metric, value in component.object.measure(state, state.data.splits()[name]).items():
                            key = f"{name}/{metric}"
                            found[key] = float(value)
                            self.summary.note(key, found[key], component.card.better.get(metric))
            state.model.train(training)
            for hook in loop.on.eval_exit:
                hook(state)
            state.enforce_masks()
            state.forget_predictions()
        return found
