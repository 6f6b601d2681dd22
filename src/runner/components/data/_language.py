"""What the sequence data sets say beside `Info`."""

from dataclasses import dataclass

from runner.core.data import Info


@dataclass(frozen=True)
class Answers(Info):
    """Sequences of which only the last positions are predicted: labels are (n, predicted), logits (B, predicted, vocabulary)."""

    predicted: int = 1
