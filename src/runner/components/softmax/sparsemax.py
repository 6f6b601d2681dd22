"""Sparsemax: the Euclidean projection of the scores onto the simplex; most weights are exactly zero."""

from runner import card

CARD = card(paper="sparsemax2016", arxiv="1602.02068", source="Martins & Astudillo 2016, eq. 2 and algorithm 1")


def build(temperature: float = 1.0):
    """argmin_p |p - s / temperature|^2 over the simplex.

    Args:
        temperature: > 0; above 1 flatter and less sparse.
    """
    from runner.kernels import sparsemax

    return lambda: lambda scores: sparsemax(scores / temperature if temperature != 1 else scores)
