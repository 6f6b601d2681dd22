"""The usual normaliser of attention scores."""

from runner import card

CARD = card()


def build(temperature: float = 1.0):
    """exp(s / temperature), normalised.

    Args:
        temperature: > 0; above 1 flatter.
    """
    from runner.kernels import softmax

    return lambda: lambda scores: softmax(scores / temperature if temperature != 1 else scores)
