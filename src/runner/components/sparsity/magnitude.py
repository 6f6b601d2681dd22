"""Gradual magnitude pruning: the smallest weights are pruned during training, quickly at first. Zhu & Gupta 2017, eq. 1."""

from typing import Literal

from runner import Duration, card
from runner.components.sparsity._masks import Masked, counts, due, shapes_of
from runner.core.weights import matrices

CARD = card(
    paper="gmp2017",
    arxiv="1710.01878",
    source="Zhu & Gupta 2017, eq. 1; begin and end as in google-research/rigl, cifar_resnet (steps 20,000 and 75,000 of 97,656), rounded",
    off={"sparsity": 0.0},
    rung={"grads": "transform", "step_end": "mask"},
    owns=("mask",),
    uses=("network",),
)


class Magnitude(Masked):
    def __init__(self, sparsity, initial, begin, end, every, scope):
        self.sparsity, self.initial, self.begin, self.end, self.every, self.scope = sparsity, initial, begin, end, every, scope

    def step_end(self, state):
        taken, total = state.step + 1, state.clock.total
        first, last = round(self.begin * total), max(1, round(self.end * total))
        if self.sparsity and first <= taken <= last and (due(state, taken - first, self.every) or taken == last):
            done = 1.0 if taken == last else (taken - first) / (last - first)
            self.prune(state, self.sparsity + (self.initial - self.sparsity) * (1 - done) ** 3)

    def prune(self, state, sparsity):
        from runner.kernels import topk_mask

        weights, keep = matrices(state.model), counts(shapes_of(state.model), sparsity, "uniform")
        if self.scope == "global":
            masks = topk_mask(list(weights.values()), sum(keep.values()))
        else:
            masks = [topk_mask(weight, keep[name]) for name, weight in weights.items()]
        state.masks.update({name: mask.to(weight) for (name, weight), mask in zip(weights.items(), masks, strict=True)})
        state.enforce_masks()


def build(
    sparsity: float = 0.9,
    initial: float = 0.0,
    begin: float = 0.2,
    end: float = 0.75,
    every: Duration = "100it",
    scope: Literal["layer", "global"] = "layer",
):
    """s_t = s_f + (s_i - s_f) (1 - (t - t_0) / (t_end - t_0))^3.

    Args:
        sparsity: in [0, 1); share of the weights of linear and convolution layers that are zero at the end (s_f).
        initial: in [0, 1); sparsity at the beginning of the pruning (s_i).
        begin: in [0, 1); share of the run at which pruning begins.
        end: in (0, 1]; share of the run at which the final sparsity is reached.
        every: time between two prunings.
        scope: layer (the same sparsity in each) or global (the smallest weights of all layers together).
    """
    if begin >= end:
        raise ValueError(f"begin={begin} must come before end={end}")
    if initial > sparsity > 0:
        raise ValueError(f"initial={initial} must not exceed sparsity={sparsity}")
    return Magnitude(sparsity, initial, begin, end, every, scope)
