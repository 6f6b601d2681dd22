"""Two networks that select samples by their losses: what co-teaching and its successors share."""

import copy

import torch

from runner.components._learned import drawn
from runner.components._selection import forget_rate


@torch.no_grad()
def shuffled(model: torch.nn.Module, generator: torch.Generator) -> torch.nn.Module:
    """A copy with other initial weights: each tensor's entries in random order, so that every scheme of independent draws keeps its distribution.

    What was learned before, or is frozen, stays: two pretrained networks differ in their heads.
    """
    peer = copy.deepcopy(model)
    for p in map(peer.get_parameter, drawn(model)):
        p.copy_(p.flatten()[torch.randperm(p.numel(), generator=generator).to(p.device)].view_as(p))
    return peer


class TwoNetworks:
    """Owns the peer of the run's network. `predictor` is `first` for the outputs of the run's own network, or `mean`."""

    def __init__(self, name, forget, ramp, exponent, predictor):
        self.stream, self.forget, self.ramp, self.exponent, self.predictor = name, forget, ramp, exponent, predictor

    def setup(self, state):
        self.peer = shuffled(state.model, state.rng(self.stream))
        state.per_sample["selected"] = torch.ones(len(state.data.train), device=state.device)

    def share(self, state) -> float:
        """Of the samples, how many are selected now: R(T)."""
        return 1 - forget_rate(state, self.forget, self.ramp, self.exponent)

    def outputs(self, state, batch):
        """Those of both networks; the first one's are the batch's."""
        self.peer.train(state.model.training)
        batch.z = state.model(batch.x)
        return batch.z, self.peer(batch.x)

    def note(self, state, batch, selected) -> None:
        """Keep what was selected: for each sample the share of the networks that learn from it."""
        if not state.replay:
            state.per_sample["selected"][batch.i] = selected.float()

    def predict(self, state, x):
        if self.predictor == "first":
            return state.model(x)
        self.peer.train(state.model.training)
        return ((state.model(x).softmax(-1) + self.peer(x).softmax(-1)) / 2).clamp_min(1e-30).log()
