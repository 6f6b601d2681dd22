"""A linear model on counts of words and n-grams: with the hinge loss and weight decay a linear support vector machine."""

import torch
from torch import nn

from runner import card
from runner.components.model._tokens import ids, known

CARD = card(source="n-grams hashed into buckets, Joulin et al. 2017 (1607.01759), section 2.2", tasks=("classification",), tokens=True)


class NGrams(nn.Module):
    def __init__(self, outputs, vocabulary, longest, buckets):
        super().__init__()
        self.vocabulary, self.longest, self.buckets = vocabulary, longest, buckets
        self.weights = nn.EmbeddingBag(vocabulary + buckets, outputs, mode="sum", padding_idx=0)
        nn.init.zeros_(self.weights.weight)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def features(self, x):
        """Indices of all n-grams (B, count); 0 where one is not whole."""
        found, key, whole = [x], x, x > 0
        for n in range(2, min(self.longest, x.shape[1]) + 1):
            key = (key[:, :-1] * 2654435761 + x[:, n - 1 :]) % (2**31 - 1)
            whole = whole[:, :-1] & (x[:, n - 1 :] > 0)
            found.append(torch.where(whole, self.vocabulary + key % self.buckets, 0))
        return torch.cat(found, 1)

    def forward(self, x):
        return self.weights(self.features(ids(x))) + self.bias


def build(vocabulary: int = 1000, longest: int = 2, buckets: int = 5000):
    """Token ids (B, T), as whole numbers of any type, to logits (B, C): a weight for each word and class, and for each bucket of n-grams.

    Args:
        vocabulary: >= 1; token ids that it knows, 0 is padding; all of the data must be among them.
        longest: >= 1; words of the longest n-gram.
        buckets: >= 1; that n-grams of two words and more share.
    """
    return lambda info, softmax: NGrams(info.outputs, known(vocabulary, info), longest, buckets)
