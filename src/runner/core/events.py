"""Who acts when. A hook is an object whose method names are events; its place among others is a named rung, never a list position.

setup(state)                 once, before the optimizer is made: own tensors, networks; changed layers, on a rung before those who copy the network
epoch_start(state)
batch(state, batch)          change the batch, or return another
losses(state, losses, batch) (B,) -> (B,): correct, weigh or select (weight 0) samples
penalty(state, batch)        -> scalar, added to the mean loss
grads(state)                 after the backward pass
step(state, grads, apply)    once, at the start -> (grads, apply): wrap the computing of gradients and the updating of weights
step_end(state)
epoch_end(state)
eval_enter(state)            before an evaluation, for instance to swap in averaged weights
eval_exit(state)             after it, in the reverse order
phases(state)                the list of phases of the run; the component owns the resource `phases`
"""

from dataclasses import dataclass

from runner.core.card import Card
from runner.core.errors import UserError

EVENTS = ("setup", "epoch_start", "batch", "losses", "penalty", "grads", "step", "step_end", "epoch_end", "eval_enter", "eval_exit")
RUNGS = {
    "setup": ("layers", "rest"),
    "batch": ("draw", "select", "target", "mix", "adversarial"),
    "losses": ("correct", "weigh", "select"),
    "grads": ("combine", "transform", "clip", "noise"),
    "step": ("own", "perturb", "search", "average"),  # each wraps those before it
    "step_end": ("inner-weights", "mask", "average"),
    "eval_enter": ("weights", "choose"),  # what is chosen for an evaluation is chosen for the weights that it sees
}


UNDECLARED = {"setup": "rest", "eval_enter": "weights"}  # the rung of those who do not say


@dataclass(frozen=True)
class Component:
    """A built component of a run: `name` is group/option."""

    name: str
    object: object
    card: Card

    def rung(self, event: str) -> int:
        """Its place on the ladder of an event. Raises UserError if it has not declared one."""
        ladder = RUNGS.get(event)
        if ladder is None:
            return 0
        rung = self.card.rung.get(event, UNDECLARED.get(event))
        if rung not in ladder:
            raise UserError(f"{self.name} acts at '{event}' and must declare its rung there, one of: {', '.join(ladder)}")
        return ladder.index(rung)


def order(components: list[Component], event: str) -> list[Component]:
    """The components that act at an event, in the order in which they act."""
    acting = [c for c in components if callable(getattr(c.object, event, None))]
    acting.sort(key=lambda c: (c.rung(event), c.name))
    return acting[::-1] if event == "eval_exit" else acting


class Events:
    """The bound methods of every event, in order: `events.batch` is a list of callables, `events.names['batch']` of their owners."""

    def __init__(self, components: list[Component]):
        self.names: dict[str, list[str]] = {}
        for event in EVENTS:
            acting = order(components, event)
            self.names[event] = [c.name for c in acting]
            setattr(self, event, [getattr(c.object, event) for c in acting])
