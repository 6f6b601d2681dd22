"""How well a method has estimated the way in which labels became wrong."""

import torch

from runner import card

CARD = card(
    source="Patrini et al. 2017, section 5.2, as a mean over the entries", arxiv="1609.03683", better={"transition_error": "min"}, tasks=("classification",)
)


class Transition:
    splits = ("train",)

    def measure(self, state, split):
        estimated = state.per_sample.get("transition")
        if estimated is None or split.clean is None:
            return {}
        classes = state.info.outputs
        counts = torch.bincount(split.clean * classes + split.y, minlength=classes**2).view(classes, classes).double()
        true = counts / counts.sum(1, keepdim=True).clamp_min(1)
        first = [(split.y == c).nonzero()[0, 0] for c in split.y.unique()]  # samples of one label share their column of T
        return {"transition_error": torch.stack([(estimated[k] - true[:, split.y[k]]).abs().mean() for k in first]).mean()}


def build():
    """transition_error: mean absolute error of the estimated transition matrix, against the frequencies among the training labels.

    Reads what a method wrote to `per_sample["transition"]` (n, C), P(the sample's label | true class); measures nothing where there is none.
    """
    return Transition()
