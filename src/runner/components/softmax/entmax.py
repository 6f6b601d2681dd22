"""Alpha-entmax: a family from softmax (alpha -> 1) over entmax-1.5 to sparsemax (alpha = 2) and beyond."""

from runner import card

CARD = card(paper="entmax2019", arxiv="1905.05702", source="Peters, Niculae & Martins 2019, eq. 9 and 10; authors' code deep-spin/entmax")


def build(alpha: float = 1.5, temperature: float = 1.0):
    """[(alpha - 1) s / temperature - tau]_+ ^ (1 / (alpha - 1)), with tau such that the weights sum to one.

    Args:
        alpha: in (1, 4]; larger is sparser.
        temperature: > 0; above 1 flatter and less sparse.
    """
    from runner.kernels import entmax

    return lambda: lambda scores: entmax(scores / temperature if temperature != 1 else scores, alpha)
