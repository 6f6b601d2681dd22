"""Measuring a run: evaluators and probes at their times, one row of metrics each time, and the summary of last and best values."""

import contextlib
import math
from collections.abc import Callable

import torch

from runner.core.errors import UserError
from runner.core.events import Component


class Summary:
    """The last and the best value of every metric that was measured. Papers mean different ones."""

    def __init__(self):
        self.last: dict[str, float] = {}
        self.best: dict[str, float] = {}
        self.measured_at = -1

    def note(self, name: str, value: float, better: str | None) -> None:
        self.last[name] = value
        best = self.best.get(name, math.nan)
        if better and (math.isnan(best) or (value > best if better == "max" else value < best)):
            self.best[name] = value

    def flat(self) -> dict[str, float]:
        return {**{f"{k}_last": v for k, v in self.last.items()}, **{f"{k}_best": v for k, v in self.best.items()}}


class Measures:
    """What is measured when.

    Args:
        evaluators, probes: components whose object has `splits` (names) and `measure(state, split) -> {metric: value}`; probes have
            gradients enabled.
        report: called with each row, `{"step": ..., "epoch": ..., "train/loss": ..., "test/acc": ...}`.
    """

    def __init__(self, evaluators: list[Component], probes: list[Component], report: Callable[[dict], None]):
        self.evaluators, self.probes, self.report = evaluators, probes, report
        self.summary = Summary()

    def start(self, loop) -> None:
        """Learn the run's times. Raises UserError where a split is asked for that the data has not."""
        training, clock = loop.training, loop.state.clock
        self.eval_every, self.probe_every, self.log_every = (
            max(1, clock.steps(length)) for length in (training.eval_every, training.probe_every, training.log_every)
        )
        splits = loop.state.data.splits()
        for component in [*self.evaluators, *self.probes]:
            if missing := [s for s in component.object.splits if s not in splits]:
                raise UserError(f"{component.name} measures on '{missing[0]}', which this data has not: {', '.join(splits)}")

    def due(self, loop) -> None:
        """After a step: measure and report what is due; after the last one everything is."""
        step = loop.state.step
        last = step == loop.state.clock.total
        evaluate, probe = last or step % self.eval_every == 0, bool(self.probes) and (last or step % self.probe_every == 0)
        if evaluate or probe or step % self.log_every == 0:
            self.row(loop, evaluate, probe)

    def finish(self, loop) -> dict[str, float]:
        """Sum up; a run without a step, or whose last phase has none, is measured now."""
        if self.summary.measured_at != loop.state.step:
            self.row(loop, True, True)
        return self.summary.flat()

    def row(self, loop, evaluate: bool, probe: bool) -> None:
        state, found = loop.state, {}
        if (loss := loop.trail.mean()) is not None:
            found["train/loss"] = loss
        if state.optimizer is not None:
            found["lr"] = state.optimizer.param_groups[0]["lr"]
        if chosen := [*(self.evaluators if evaluate else ()), *(self.probes if probe else ())]:
            found.update(self.measure(loop, chosen))
        if evaluate:
            self.summary.measured_at = state.step
        state.metrics.update(found)
        self.report({"step": state.step, "epoch": round(state.step / state.clock.epoch, 4), **found})

    def measure(self, loop, components: list[Component]) -> dict[str, float]:
        """Run evaluators. Training goes on afterwards as if they had not been there: mode, weights and torch's random streams."""
        state, found = loop.state, {}
        with torch.random.fork_rng([state.device] if state.device.type == "cuda" else []):
            for hook in loop.on.eval_enter:
                hook(state)
            state.enforce_masks()
            state.forget_predictions()
            training = state.model.training
            state.model.eval()
            for component in components:
                with contextlib.nullcontext() if component in self.probes else torch.no_grad():
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
