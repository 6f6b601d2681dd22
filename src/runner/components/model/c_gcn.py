"""C-GCN: an LSTM reads the sentence, graph convolutions pass its states along the part of the dependency tree that joins two names."""

import torch
from torch import nn

from runner import UserError, card
from runner.components._words import start
from runner.components.model._tokens import ids, known

CARD = card(
    paper="cgcn2018",
    arxiv="1809.10185",
    source="Zhang, Qi & Manning 2018, Graph Convolution over Pruned Dependency Trees Improves Relation Extraction; sizes, dropout, pruning and the two "
    "biases of each layer as qipeng/gcn-over-pruned-trees has them, train.py, train_cgcn.sh, model/gcn.py, model/tree.py",
    tasks=("classification",),
    tokens=True,
)


def edges(heads):
    """Which word depends on which: (B, T) positions from 1, 0 for none, to (B, T, T), 1 at (i, j) where j is the head of i."""
    return nn.functional.one_hot(heads, heads.shape[1] + 1)[:, :, 1:].float()


def path(up, subj, obj):
    """The path between two names in the tree, (B, T), and its highest word, (B, T): of the words that all words of both names stand under the lowest.

    Args:
        up: (B, T, T), as `edges` gives it.
        subj: (B, T), true for the words of the subject.
        obj: (B, T), for those of the object.
    """
    names, count = (subj | obj).float(), up.shape[1]
    above = up + torch.eye(count, device=up.device)  # (i, j): i is j or stands under it
    for _ in range(count.bit_length()):
        above = (above @ above).clamp_max(1)
    hits = (names[:, None] @ above)[:, 0]
    common = (hits == names.sum(1, keepdim=True)) & (hits > 0)
    depth = above.sum(2)
    top = common & (depth == (depth * common).amax(1, keepdim=True))
    return ((hits > 0) & ~common) | top, top


class CGCN(nn.Module):
    def __init__(self, outputs, vocabulary, tags, entities, width, features, units, depth, hidden, prune, dropout):
        super().__init__()
        self.prune, self.drop = prune, nn.Dropout(dropout)
        self.words, self.tags, self.entities = nn.Embedding(vocabulary, width, padding_idx=0), nn.Embedding(tags, features), nn.Embedding(entities, features)
        nn.init.uniform_(self.words.weight[1:], -1, 1)
        self.lstm = nn.LSTM(width + 2 * features, units, batch_first=True, bidirectional=True)
        self.convolutions = nn.ModuleList(nn.Linear(units if k else 2 * units, units) for k in range(depth))
        self.pooled = nn.Identity()  # the sentence's vector, for penalties
        layers = [nn.Sequential(nn.Linear(units if k else 3 * units, units), nn.ReLU()) for k in range(hidden)]
        self.mlp, self.out = nn.Sequential(*layers), nn.Linear(units, outputs)

    def tree(self, heads, subj, obj):
        """Which words of the pruned tree are joined, (B, T, T), and which are in it, (B, T)."""
        up = edges(heads)
        if self.prune is None:
            kept = up.sum(1) + up.sum(2) > 0
        else:
            kept, top = path(up, subj, obj)
            for _ in range(self.prune):
                kept = kept | ((up @ kept.float()[:, :, None])[:, :, 0] > 0)
            up = up * (kept & ~top)[:, :, None]
        return up + up.mT, kept

    def forward(self, x):
        words, tags, entities, subj, obj, heads = ids(x).unbind(1)
        inside, length = words > 0, words.shape[1]
        subj, obj = (subj == length) & inside, (obj == length) & inside
        states = self.drop(torch.cat([self.words(words), self.tags(tags), self.entities(entities)], 2))
        packed = nn.utils.rnn.pack_padded_sequence(states, inside.sum(1).cpu(), batch_first=True, enforce_sorted=False)
        states = nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=length)[0]
        near, kept = self.tree(heads, subj, obj)
        near, count = near.to(states.dtype), near.sum(2, keepdim=True) + 1
        for layer in self.convolutions:
            states = self.drop(states)
            states = ((layer(near @ states) + layer(states)) / count).relu()
        # No state is below 0, so 0 takes words out of a maximum
        whole, subject, thing = ((states * mask[:, :, None]).amax(1) for mask in (kept, subj, obj))
        return self.out(self.mlp(torch.cat([self.pooled(whole), subject, thing], 1)))


def build(
    vocabulary: int, vectors: str | None = None, tags: int = 47, entities: int = 15, width: int = 300, features: int = 30, units: int = 200, depth: int = 2,
    hidden: int = 2, prune: int | None = 1, dropout: float = 0.5,
):  # fmt: skip
    """Inputs (B, 6, T) as `data.inputs=tree` of data=tacred gives them, whole numbers of any type, to logits (B, C). Padding stands behind the words.

    The tree is cut down to the words on the path between subject and object, over their lowest common ancestor, and those that hang at most `prune`
    steps below it. On it h_i becomes relu((W (h_i + the sum of its neighbours') + 2 b) / (1 + neighbours)), `depth` times, from the states
    of an LSTM in both directions. The maxima over the tree's words, the subject's and the object's go through a perceptron.

    Args:
        vocabulary: >= 1; word ids that it knows, 0 is padding; all of the data must be among them.
        vectors: text file of a word and `width` numbers a line, such as glove.840B.300d.txt; words that it has start from them and are trained on.
        tags: >= 1; ids of parts of speech, padding included.
        entities: >= 1; ids of entity classes, padding included.
        width: >= 1; size of a word.
        features: >= 1; size of a part of speech and of an entity class.
        units: >= 1; of each direction of the LSTM, of each convolution and of each hidden layer.
        depth: >= 1; convolutions.
        hidden: >= 1; hidden layers of the perceptron.
        prune: >= 0; steps from a kept word up to the path at most; null keeps the whole tree.
        dropout: in [0, 1); of the LSTM's inputs and of the inputs of each convolution.
    """

    def make(info, softmax):
        del softmax
        if info.shape[:-1] != (6,):
            what = f"model=c_gcn takes words, tags, entity classes, two places and heads (6, T), this data has inputs of shape {info.shape}"
            raise UserError(f"{what}; set data=tacred and data.inputs=tree")
        model = CGCN(info.outputs, known(vocabulary, info, dims=2), tags, entities, width, features, units, depth, hidden, prune, dropout)
        if vectors is not None:
            start(model.words, vectors, info, "model.vectors")
        return model

    return make
