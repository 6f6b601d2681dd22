"""Sparse softmax: a softmax over the k largest scores of a row; the others get no weight and no gradient."""

from runner import card

CARD = card(paper="sparse_softmax2021", arxiv="2112.12433", source="Sun et al. 2021; ties go to the lowest index")


def build(k: int = 8, temperature: float = 1.0):
    """exp(s / temperature) over its sum, for the k largest scores s.

    Args:
        k: >= 1; rows of fewer scores keep all of them.
        temperature: > 0; above 1 flatter.
    """
    from runner.kernels import sparse_topk_softmax

    return lambda: lambda scores: sparse_topk_softmax(scores, min(k, scores.shape[-1]), temperature=temperature)
