"""Loss-based reweighting: within each batch samples with small losses, already learned, count less. Sow et al. 2025."""

from typing import Literal

from runner import Duration, card

CARD = card(
    paper="linupper2025",
    arxiv="2502.06733",
    source="Sow et al. 2025; authors' code sowmaster/Sample-Level-Loss-Reweighting-ICLR-2025, src/trainer.py: h_func, f_func_*, training_step with delta = 1; "
    "1000 steps without weights and r = 1 as there",
    off={"burn_in": "1000000ep"},
    rung={"losses": "weigh"},
)
SHAPES = {
    "linupper": lambda h: (h + 1).clamp_max(1),
    "quadratic": lambda h: 1 - h.square(),
    "extremes": lambda h: h.abs(),
}


def weights(losses, shape: str, r: float):
    """Weights of mean 1: softmax of f(h) / r over the batch, with the losses mapped to h in [-1, 1]."""
    low, high = losses.min(), losses.max()
    h = (2 * losses - (high + low)) / (high - low).clamp_min(1e-6)
    return (SHAPES[shape](h) / r).softmax(0) * len(losses)


class LinUpper:
    def __init__(self, shape, r, burn_in):
        self.shape, self.r, self.burn_in = shape, r, burn_in

    def losses(self, state, losses, batch):
        if state.step < state.clock.steps(self.burn_in):
            return losses
        return losses * weights(losses.detach().float(), self.shape, self.r)


def build(shape: Literal["linupper", "quadratic", "extremes"] = "linupper", r: float = 1.0, burn_in: Duration = "1000it"):
    """sum_i w_i l_i with w = softmax(f(h) / r) over the batch, where h in [-1, 1] is the loss, from the smallest to the largest of the batch.

    Args:
        shape: linupper, f = min(h + 1, 1), takes weight from small losses only; quadratic, 1 - h^2, favours middle ones; extremes, |h|, large and small ones.
        r: > 0; the larger, the more alike the weights.
        burn_in: beginning of the run without weights.
    """
    return LinUpper(shape, r, burn_in)
