"""Stochastic weight averaging (SWA): the mean of the weights at the ends of the last epochs, evaluated in their place."""

import importlib

import torch

from runner import Duration, card

Average = importlib.import_module("runner.components.with._average").Average  # `with` is a keyword

CARD = card(
    paper="swa2018", arxiv="1803.05407", source="Izmailov et al. 2018, algorithm 1; authors' code timgaripov/swa train.py and utils.py (bn_update)",
    off={"start": 1.0}, rung={"step_end": "average"}, owns=("eval-weights",),
)  # fmt: skip


class WeightAveraging(Average):
    def __init__(self, start, every):
        super().__init__()
        self.start, self.every, self.count, self.stale = start, every, 0, False

    def step_end(self, state):
        if self.start == 1:
            return  # the last weights, with their own statistics
        begin = max(1, round(self.start * state.clock.total))
        since = state.step + 1 - begin
        if since >= 0 and since % max(1, state.clock.steps(self.every)) == 0:
            self.count = self.count + 1 if self.restarts == state.restarts else 1
            self._blend(state, 1 / self.count)
            self.stale = True

    def eval_enter(self, state):
        super().eval_enter(state)
        norms = [m for m in state.model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
        if self.stale and self.own and norms:  # without `own` the weights are those of a training that began anew, not the average
            self._renew_statistics(state, norms)
            self.average = state.weights()
        self.stale = False

    @torch.no_grad()
    def _renew_statistics(self, state, norms):
        """One pass over the training data: the mean of the activations under the averaged weights is not the mean of their means."""
        momenta, training = [m.momentum for m in norms], state.model.training
        for module in norms:
            module.reset_running_stats()
        state.model.train()
        seed = state.rng.derive("weight_averaging", state.step)
        order = torch.randperm(len(state.data.train), generator=torch.Generator().manual_seed(seed))
        augment, seen = torch.Generator(state.device).manual_seed(seed), 0
        for batch in state.data.train.batches(order, state.eval_batch, state.device, augment, state.epoch):
            if len(batch.i) > 1:
                seen += len(batch.i)
                for module in norms:
                    module.momentum = len(batch.i) / seen
                state.model(batch.x)
        for module, momentum in zip(norms, momenta, strict=True):
            module.momentum = momentum
        state.model.train(training)


def build(start: float = 0.75, every: Duration = "1ep"):
    """average <- (n average + weights) / (n + 1) at the start and after each stretch `every`; works best with a large constant learning rate.

    Statistics of batch norm are estimated anew, by a pass over the training data before an evaluation, as in the paper.

    Args:
        start: in [0, 1]; share of the run before the first average (about 0.75 in the paper); 1 evaluates the last weights.
        every: time between two weights that are averaged; with a cyclic schedule, its cycle.
    """
    return WeightAveraging(start, every)
