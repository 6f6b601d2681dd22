"""LSTM with position-aware attention: which words count depends on their places relative to the two names whose relation is asked for."""

from itertools import pairwise

import torch
from torch import nn

from runner import UserError, card
from runner.components._words import start
from runner.components.model._tokens import ids, known

CARD = card(
    paper="palstm2017",
    source="Zhang et al. 2017, Position-aware Attention and Supervised Data Improve Slot Filling; sizes, dropout and first weights as "
    "yuhaozhang/tacred-relation has them, train.py, model/rnn.py, model/layers.py",
    tasks=("classification",),
    tokens=True,
)


class PALSTM(nn.Module):
    def __init__(self, length, outputs, vocabulary, tags, entities, width, features, units, depth, attention, dropout):
        super().__init__()
        self.words, self.tags = nn.Embedding(vocabulary, width, padding_idx=0), nn.Embedding(tags, features, padding_idx=0)
        self.entities, self.places = nn.Embedding(entities, features, padding_idx=0), nn.Embedding(2 * length, features, padding_idx=0)
        sizes = [width + 2 * features] + [units] * depth
        # One by one: cuDNN's dropout between layers does not follow the seed (pytorch/pytorch#74177)
        self.lstms = nn.ModuleList(nn.LSTM(a, b, batch_first=True) for a, b in pairwise(sizes))
        self.drop = nn.Dropout(dropout)
        self.state, self.query = nn.Linear(units, attention), nn.Linear(units, attention, bias=False)  # W_h, W_q
        self.place = nn.Linear(2 * features, attention, bias=False)  # W_s and W_o
        self.score, self.out = nn.Linear(attention, 1, bias=False), nn.Linear(units, outputs)  # v
        for table in (self.words, self.tags, self.entities, self.places):
            nn.init.uniform_(table.weight[1:], -1, 1)
        for layer in (self.state, self.query, self.place):
            nn.init.normal_(layer.weight, std=0.001)
        nn.init.zeros_(self.score.weight)
        nn.init.xavier_uniform_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x):
        words, tags, entities, subj, obj = ids(x).unbind(1)
        states = torch.cat([self.words(words), self.tags(tags), self.entities(entities)], 2)
        for lstm in self.lstms:
            states = lstm(self.drop(states))[0]
        last = states[torch.arange(len(x), device=x.device), (words > 0).sum(1) - 1]
        states, query = self.drop(states), self.drop(last)
        places = torch.cat([self.places(subj), self.places(obj)], 2)
        scores = self.score((self.state(states) + self.query(query)[:, None] + self.place(places)).tanh()).squeeze(2)
        weights = scores.masked_fill(words == 0, -torch.inf).softmax(1)
        return self.out((weights[:, :, None] * states).sum(1))


def build(
    vocabulary: int, vectors: str | None = None, tags: int = 47, entities: int = 15, width: int = 300, features: int = 30, units: int = 200, depth: int = 2,
    attention: int = 200, dropout: float = 0.5,
):  # fmt: skip
    """Inputs (B, 5, T) as `data.inputs=all` of data=tacred gives them, whole numbers of any type, to logits (B, C). Padding stands behind the words.

    The states h_i of the upper LSTM are summed with weights softmax(v tanh(W_h h_i + W_q q + W_s p_i + W_o o_i)), q the last state, p_i and o_i
    embeddings of the places of the word relative to subject and object, from one table.

    Args:
        vocabulary: >= 1; word ids that it knows, 0 is padding; all of the data must be among them.
        vectors: text file of a word and `width` numbers a line, such as glove.840B.300d.txt; words that it has start from them and are trained on.
        tags: >= 1; ids of parts of speech, padding included.
        entities: >= 1; ids of entity classes, padding included.
        width: >= 1; size of a word.
        features: >= 1; size of a part of speech, of an entity class and of a place.
        units: >= 1; of each LSTM.
        depth: >= 1; LSTMs.
        attention: >= 1; size of v.
        dropout: in [0, 1); of the inputs of each LSTM and of the upper one's states.
    """

    def make(info, softmax):
        del softmax
        if info.shape[:-1] != (5,):
            what = f"model=pa_lstm takes words, tags, entity classes and two places (5, T), this data has inputs of shape {info.shape}"
            raise UserError(f"{what}; set data=tacred and data.inputs=all")
        sizes = (tags, entities, width, features, units, depth, attention)
        model = PALSTM(info.shape[1], info.outputs, known(vocabulary, info, dims=2), *sizes, dropout)
        if vectors is not None:
            start(model.words, vectors, info, "model.vectors")
        return model

    return make
