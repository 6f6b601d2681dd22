"""The plain learner: one network, the loss of its outputs against the training targets."""

from runner import card

CARD = card()


class Supervised:
    def compute(self, state, batch):
        batch.z = state.model(batch.x)
        return state.loss(batch.z, batch.t)


def build():
    """Per-sample losses of the model on the batch."""
    return Supervised()
