"""Nested dropout: the classifier is given the first k features only, with k drawn anew for each batch. Chen et al. 2022."""

import torch

from runner import UserError, card
from runner.components._features import classifier, inputs

CARD = card(
    paper="nesteddropout2022",
    arxiv="2206.13140",
    source="Chen et al. 2022; authors' code yingyichen-cyy/Nested-Co-teaching, nested/train_resnet.py: mu = 0, one k a batch, "
    "the best k on validation; sigma = 10 for CIFAR-10, 100 for CIFAR-100 (run_cifar.sh)",
    off={"sigma": 0.0},
    rung={"batch": "mix", "eval_enter": "choose"},
    tasks=("classification",),
    uses=("network",),
)


class NestedDropout:
    def __init__(self, sigma, mu, units):
        self.sigma, self.mu, self.units = sigma, mu, units

    def setup(self, state):
        self.classifier = classifier(state.model, "with/nested_dropout")
        self.drawn = self.used = d = self.classifier.in_features
        if self.units is not None and self.units > d:
            raise UserError(f"with.nested_dropout.units={self.units} is more than the {d} features of the model")
        self.classifier.register_forward_pre_hook(self._truncate)

    def _truncate(self, module, given):
        (features,) = given
        k = self.drawn if module.training else self.used
        return None if k == features.shape[-1] else features * (torch.arange(features.shape[-1], device=features.device) < k)

    def batch(self, state, batch):
        if self.sigma:
            d = self.classifier.in_features
            far = ((torch.arange(1, d + 1) - self.mu) / self.sigma) ** 2
            chances = torch.exp(far.min() - far)  # the likeliest k has 1: far from `mu`, or at a small `sigma`, all would be 0
            self.drawn = 1 + int(torch.multinomial(chances, 1, generator=state.rng("with/nested_dropout")))

    def eval_enter(self, state):
        self.used = self.units or self.best(state)

    def eval_exit(self, state):
        self.used = self.classifier.in_features  # what others ask of the network between evaluations does not depend on when those come

    def best(self, state):
        """The number of features with the most right predictions on the validation split, the smallest of equals; all without such a split."""
        self.used = d = self.classifier.in_features
        if state.data.val is None or not self.sigma:
            return d
        right, training = torch.zeros(d, device=state.device), state.model.training
        state.model.eval()
        weights = []  # as they are in the pass: a learner may predict with others than the model's own
        with inputs(self.classifier) as seen, self.classifier.register_forward_pre_hook(lambda layer, given: weights.append(layer.weight.detach())):
            for batch in state.predictions(state.data.val):
                features, weight = seen.pop(), weights.pop()
                z = batch.z - features @ weight.T  # the bias, in the outputs' shape
                for k in range(d):
                    z += features[:, k, None] * weight[:, k]
                    right[k] += (z.argmax(-1) == batch.y).sum()
        state.model.train(training)
        state.forget_predictions()
        return 1 + int(right.argmax())


def build(sigma: float = 10.0, mu: float = 0.0, units: int | None = None):
    """Train on the first k of d features with chance proportional to exp(-((k - mu) / sigma)^2), k = 1 to d; features become ordered by importance.

    Args:
        sigma: >= 0; width of the distribution of k; 0 drops nothing.
        mu: >= 0; its mode.
        units: >= 1; features used in evaluations; if not given the best number on the validation split, all where there is none.
    """
    return NestedDropout(sigma, mu, units)
