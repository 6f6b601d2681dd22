"""Transfer: train on one part of the samples, those of a source, then go on with a few of the target."""

import torch

from runner import Duration, UserError, card
from runner.core.data import LoadedSplit
from runner.core.phases import Phase

CARD = card(
    paper="soapweak2022",
    arxiv="2211.14539",
    source="Kwon, Yang & Yu 2022: all weights of a network trained on the weak labels of one hospital are tuned on annotated notes of another",
    rung={"batch": "draw"},  # others leave out of what it draws
    owns=("phases",),
)


class Transfer:
    def __init__(self, pretraining, finetuning):
        self.pretraining, self.finetuning = pretraining, finetuning

    def setup(self, state):
        target = state.data.train.side.get("target", torch.zeros(0))
        rows = torch.arange(len(state.data.train))
        self.pools = [rows[~target.bool().cpu()], rows[target.bool().cpu()]] if len(target) else [rows, rows]
        if not len(self.pools[0]) or not len(self.pools[1]):
            raise UserError("with/transfer needs samples of the source and of the target; see side['target'] of the data")

    def phases(self, state):
        return [Phase("source", self.pretraining), Phase("target", self.finetuning, fresh=True)]

    def batch(self, state, batch):
        """As many samples of the pool whose turn it is, or all of it."""
        train, pool = state.data.train, self.pools[state.phase]
        drawn = train.fetch(pool[torch.randperm(len(pool), generator=state.rng("with/transfer"))[: len(batch.i)]])
        if train.augment is not None and not isinstance(train, LoadedSplit):
            drawn.x = train.augment(drawn.x, state.rng("with/transfer/augment", drawn.x.device))
        return drawn


def build(pretraining: Duration | None = None, finetuning: Duration | None = None):
    """First batches of source samples only; then, with a new optimizer and schedule, of target samples only.

    side["target"] of the data says which are which; where there is none, all samples are both.

    Args:
        pretraining: time on the source, 0it to start on the target from scratch; what the other leaves of the run if not given.
        finetuning: time on the target; what the other leaves of the run if not given.
    """
    return Transfer(pretraining, finetuning)
