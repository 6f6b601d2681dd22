"""Convolutional network for sentences: filters over 3, 4 and 5 words, and the largest value of each over time."""

import torch
from torch import nn

from runner import card
from runner.components.model._tokens import ids, known

CARD = card(
    paper="textcnn2014",
    arxiv="1408.5882",
    source="Kim 2014, section 2, CNN-rand; 100 filters of each width, dropout 0.5 and 300 dimensions in section 3.1; words start in +-0.25, as rare ones there",
    tasks=("classification",),
    tokens=True,
)


class TextCNN(nn.Module):
    def __init__(self, outputs, vocabulary, width, filters, windows, dropout):
        super().__init__()
        self.words = nn.Embedding(vocabulary, width, padding_idx=0)
        nn.init.uniform_(self.words.weight[1:], -0.25, 0.25)
        self.filters = nn.ModuleList(nn.Conv1d(width, filters, n, padding=n - 1) for n in windows)
        self.drop, self.out = nn.Dropout(dropout), nn.Linear(filters * len(windows), outputs)

    def forward(self, x):
        words = self.words(ids(x)).transpose(1, 2)
        return self.out(self.drop(torch.cat([f(words).relu().amax(2) for f in self.filters], 1)))


def build(vocabulary: int = 1000, width: int = 32, filters: int = 16, windows: list[int] = (3, 4, 5), dropout: float = 0.5):
    """Token ids (B, T), as whole numbers of any type, to logits (B, C). Sentences are padded with zeros on both sides, so that they may be short.

    Args:
        vocabulary: >= 1; token ids that it knows, 0 is padding; all of the data must be among them.
        width: >= 1; size of a word.
        filters: >= 1; of each width.
        windows: >= 1; widths of the filters, in words.
        dropout: in [0, 1); of the largest values.
    """
    if not windows:
        raise ValueError("windows is empty; it takes widths of filters, such as [3,4,5]")
    return lambda info, softmax: TextCNN(info.outputs, known(vocabulary, info), width, filters, windows, dropout)
