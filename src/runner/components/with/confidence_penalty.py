"""Confidence penalty: reward predictions for their entropy, so that the network is not sure of what it memorises."""

from runner import card

CARD = card(
    paper="confidence_penalty2017", arxiv="1701.06548", source="Pereyra et al. 2017, section 4.1: beta = 1 for MNIST, 0.1 for CIFAR-10",
    off={"beta": 0.0}, tasks=("classification", "language"), uses=("outputs",),
)  # fmt: skip


class ConfidencePenalty:
    def __init__(self, beta):
        self.beta = beta

    def penalty(self, state, batch):
        log_p = batch.z.float().log_softmax(-1)
        return self.beta * (log_p.exp() * log_p).sum(-1).mean()


def build(beta: float = 0.1):
    """loss - beta * mean entropy of the predictions.

    Args:
        beta: >= 0; strength.
    """
    return ConfidencePenalty(beta)
