"""Multiple-instance learning: whole bags are pooled into one prediction, and only the bag's label is learned from."""

from typing import Literal

import torch
from torch import nn

from runner import UserError, card
from runner.components._features import classifier, inputs
from runner.core.data import LoadedSplit

CARD = card(
    paper="weakstil2021",
    arxiv="2109.05892",
    source="Schirris et al. 2021: a score for each tile, their mean for the slide; gated attention of Ilse, Tomczak & Welling 2018 (1802.04712), equation 9",
    rung={"batch": "select"},
    tasks=("classification", "regression"),
    owns=("loss",),
)


class MIL:
    def __init__(self, pooling, bags, hidden):
        self.pooling, self.bags, self.hidden = pooling, bags, hidden

    def setup(self, state):
        train = state.data.train
        self.bag = train.side.get("bag", torch.arange(len(train), device=state.device))
        if self.pooling != "attention":
            return
        self.last = classifier(state.model, "learner/mil")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(state.rng.derive("learner/mil"))
            self.gate = nn.ModuleList([nn.Linear(self.last.in_features, self.hidden) for _ in range(2)] + [nn.Linear(self.hidden, 1)]).to(state.device)

    def batch(self, state, batch):
        """The whole bags of the first samples; each bag counts the same, whatever its size."""
        train, bags = state.data.train, self.bag[batch.i[: self.bags]].unique()
        whole = train.fetch(torch.isin(self.bag, bags).nonzero()[:, 0])
        if train.augment is not None and not isinstance(train, LoadedSplit):
            whole.x = train.augment(whole.x, state.rng("learner/mil", whole.x.device))
        _, bag, sizes = self.bag[whole.i].unique(return_inverse=True, return_counts=True)
        if (sizes != sizes[0]).any():
            whole.w = len(bag) / (len(sizes) * sizes[bag])
        return whole

    def outputs(self, state, x):
        """Of each instance: features where attention needs them, outputs of the model, and how much attention it draws."""
        if self.pooling != "attention":
            return None, state.model(x), None
        with inputs(self.last) as seen:
            z = state.model(x)
        tanh, sigmoid, weight = self.gate
        return seen[0], z, weight(tanh(seen[0]).tanh() * sigmoid(seen[0]).sigmoid())[:, 0]

    def pooled(self, state, features, z, attention, bag, count):
        """What is predicted for each of the bags (count, C)."""
        regression = state.info.task == "regression"
        sums = lambda v: v.new_zeros(count, v.shape[1]).index_add(0, bag, v)
        if self.pooling == "attention":
            weights = (attention - attention.max()).exp()[:, None]
            z = self.last(sums(weights * features) / sums(weights).clamp_min(1e-30))
            return z.sigmoid() if regression else z
        if self.pooling == "max":
            score = z[:, 0] if regression else z[:, 1:].amax(1) - z[:, 0]
            top = [(bag == b).nonzero()[:, 0] for b in range(count)]
            z = z[torch.stack([rows[score[rows].argmax()] for rows in top])]
            return z.sigmoid() if regression else z
        sizes = bag.bincount(minlength=count)[:, None]
        return sums(z.sigmoid()) / sizes if regression else (sums(z.softmax(1)) / sizes).clamp_min(1e-12).log()

    def compute(self, state, batch):
        features, z, attention = self.outputs(state, batch.x)
        batch.z = z
        bags, bag = self.bag[batch.i].unique(return_inverse=True)
        if state.batch is not None and len(batch.i) < len(state.batch.i) and torch.isin(self.bag[state.batch.i], bags).sum() > len(batch.i):
            raise UserError("learner/mil pools whole bags, but the pieces of a batch cut them; use trainer.accumulate=1 and one process")
        first = torch.stack([(bag == b).nonzero()[0, 0] for b in range(len(bags))])
        return state.loss(self.pooled(state, features, z, attention, bag, len(bags)), batch.t[first])[bag]

    def predict(self, state, x):
        _, z, attention = self.outputs(state, x)
        if attention is not None:
            return attention[:, None] if state.info.outputs == 1 else torch.cat([torch.zeros_like(z[:, 1:]), attention[:, None]], 1)
        return z.sigmoid() if state.info.task == "regression" else z


def build(pooling: Literal["mean", "max", "attention"] = "mean", bags: int = 8, hidden: int = 64):
    """Each step is taken on whole bags, those of the first samples of the batch; the loss of a bag's prediction is the loss of its instances.

    What is evaluated are the instances: their scores, or with attention how much of it they draw. A regression is one in [0, 1].
    Without side["bag"] in the data each sample is a bag of its own.

    Args:
        pooling: mean of the scores (probabilities), the instance with the highest score, or gated attention over the features.
        bags: >= 1; in a batch.
        hidden: >= 1; width of the attention's hidden layer.
    """
    return MIL(pooling, bags, hidden)
