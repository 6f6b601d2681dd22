"""Adaptive temperature: rows whose attention is spread out are sharpened, by a polynomial of their entropy; at inference."""

from torch import nn

from runner import card

CARD = card(paper="adaptive_temperature2024", arxiv="2410.01104", source="Velickovic et al. 2024, listing and polynomial")


class Adaptive(nn.Module):
    def __init__(self, threshold, always):
        super().__init__()
        self.threshold, self.always = threshold, always

    def forward(self, scores):
        from runner.kernels import adaptive_softmax, softmax

        return softmax(scores) if self.training and not self.always else adaptive_softmax(scores, threshold=self.threshold)


def build(threshold: float = 0.5, always: bool = False):
    """softmax(b s), b = max(poly(H), 1) where the entropy H of softmax(s) exceeds the threshold, else 1.

    Args:
        threshold: >= 0; entropy in nats up to which rows stay as they are.
        always: also while training; the paper sharpens trained models only.
    """
    return lambda: Adaptive(threshold, always)
