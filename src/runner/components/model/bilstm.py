"""Bidirectional LSTM over a sequence, with an output for every position: a tagger."""

from torch import nn

from runner import card

CARD = card(
    paper="bilstm2015", arxiv="1508.01991", source="Huang, Xu & Yu 2015, section 2.2; with learner=crf its BI-LSTM-CRF, section 2.5", tasks=("language",)
)


class BiLSTM(nn.Module):
    def __init__(self, info, width, depth, dropout):
        super().__init__()
        self.predicted = info.predicted or info.shape[0]
        self.tokens, self.drop = nn.Embedding(info.outputs, width), nn.Dropout(dropout)
        self.lstm = nn.LSTM(width, width, depth, batch_first=True, bidirectional=True)
        self.out = nn.Linear(2 * width, info.outputs)

    def forward(self, x):
        hidden = self.lstm(self.drop(self.tokens(x)))[0][:, -self.predicted :]
        return self.out(self.drop(hidden))


def build(width: int = 32, depth: int = 1, dropout: float = 0.5):
    """Tokens (B, T) to logits (B, T, V), or (B, k, V) where the data asks for the last k positions only. Each position sees the whole sequence.

    Args:
        width: >= 1; size of a token, and of the state in each direction.
        depth: >= 1; layers.
        dropout: in [0, 1); of the tokens and of the states.
    """
    return lambda info, softmax: BiLSTM(info, width, depth, dropout)
