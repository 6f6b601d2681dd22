"""Entmax-1.5: half way between softmax and sparsemax, sparse but smooth; solved exactly by sorting."""

from runner import card

CARD = card(paper="entmax2019", arxiv="1905.05702", source="Peters, Niculae & Martins 2019, eq. 10 and algorithm 2; authors' code deep-spin/entmax")


def build(temperature: float = 1.0):
    """[s / (2 temperature) - tau]_+ ^ 2, with tau such that the weights sum to one.

    Args:
        temperature: > 0; above 1 flatter and less sparse.
    """
    from runner.kernels import entmax15

    return lambda: lambda scores: entmax15(scores / temperature if temperature != 1 else scores)
