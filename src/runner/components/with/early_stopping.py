"""Early stopping: the run ends with the weights that were best on held-out samples, whose labels may be as wrong as the others'."""

import torch

from runner import UserError, card

CARD = card(
    paper="earlystopping1998",
    source="Prechelt 1998, Early Stopping - But When?, section 2 (the best of the whole run); on noisy held-out labels as in Xia et al. 2021, section 3",
    rung={"batch": "select", "step_end": "average"},
    owns=("eval-weights",),
    tasks=("classification",),
)


class EarlyStopping:
    def __init__(self, holdout):
        self.holdout = holdout
        self.best, self.weights, self.others = -1.0, {}, []
        self.restarts = 0  # of the training

    def setup(self, state):
        if not self.holdout and state.data.val is None:
            raise UserError(
                "with/early_stopping has nothing to validate on; set data.val=0.1, or with.early_stopping.holdout=0.1 for a part of the training set"
            )
        n = len(state.data.train)
        rows = torch.randperm(n, generator=state.rng("with/early_stopping"))[: int(self.holdout * n)]
        if self.holdout and not len(rows):
            raise UserError(f"with.early_stopping.holdout={self.holdout} holds out none of the {n} training samples; set more")
        self.held = torch.zeros(n, dtype=torch.bool)
        self.held[rows] = True
        self.held = self.held.to(state.device)

    def batch(self, state, batch):
        kept = ~self.held[batch.i]
        if kept.any():
            return batch if kept.all() else batch.take(kept)
        batch.w = torch.zeros(len(batch.i), device=batch.x.device)
        return batch

    @torch.no_grad()
    def score(self, state) -> float:
        """Accuracy on the held-out samples, as they are labelled."""
        split, rows = (state.data.train, self.held.nonzero()[:, 0].cpu()) if self.holdout else (state.data.val, torch.arange(len(state.data.val)))
        training = state.model.training
        state.model.eval()
        right = sum((state.predict(b.x).argmax(-1) == b.y).sum().item() for b in split.batches(rows, state.eval_batch, state.device))
        state.model.train(training)
        return right / max(1, len(rows))

    def beside(self, state) -> list:
        """What is trained beside the model: the parameters of a learner's further networks, which may predict too (their running statistics stay the last)."""
        own = {id(p) for p in state.model.parameters()}
        return [p for p in state.parameters() if id(p) not in own]

    def step_end(self, state):
        taken = state.step + 1
        last = taken >= state.clock.total
        if self.restarts != state.restarts:
            self.best, self.restarts = -1.0, state.restarts
        if last or taken % state.clock.epoch == 0:
            if (score := self.score(state)) > self.best:
                self.best, self.weights = score, state.weights()
                self.others = [p.detach().clone() for p in self.beside(state)]
            if last:
                state.load_weights(self.weights)
                for p, best in zip(self.beside(state), self.others, strict=True):
                    p.data.copy_(best)


def build(holdout: float = 0.1):
    """Measures the accuracy on held-out samples after every epoch; at the end the weights of the best epoch, the first of equals, are restored.

    The run does not get shorter by it.

    Args:
        holdout: in [0, 1); share of the training samples that are held out, with the labels they have; 0 for the data's own validation split, which is clean.
    """
    return EarlyStopping(holdout)
