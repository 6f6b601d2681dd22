"""Exponential moving average of the weights, evaluated in their place."""

import importlib

from runner import card

Average = importlib.import_module("runner.components.with._average").Average  # `with` is a keyword

CARD = card(
    paper="ema1992", source="Polyak & Juditsky 1992; start as in Tarvainen & Valpola 2017 (1703.01780), whose code has min(1 - 1/(t + 1), decay)",
    off={"decay": 0.0}, rung={"step_end": "average"}, owns=("eval-weights",),
)  # fmt: skip


class EMA(Average):
    def __init__(self, decay):
        super().__init__()
        self.decay = decay

    def step_end(self, state):
        self._blend(state, 1 - min(self.decay, 1 - 1 / (state.step - self.begun + 1)))


def build(decay: float = 0.999):
    """average <- d average + (1 - d) weights after step t, d = min(decay, 1 - 1 / (t + 1)): a plain mean until it has `decay`.

    Statistics of batch norm are averaged like the weights, which they follow closely.

    Args:
        decay: in [0, 1); memory of the average; 0 evaluates the weights themselves.
    """
    return EMA(decay)
