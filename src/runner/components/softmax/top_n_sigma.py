"""Top-n-sigma: a softmax over the scores within n standard deviations of the largest; a rule for sampling, here for attention."""

from runner import card

CARD = card(paper="top_n_sigma2024", arxiv="2411.07641", source="Tang et al. 2024; authors' code Tomorrowdawn/top_nsigma, nsigma_truncate")


def build(n: float = 1.0, temperature: float = 1.0):
    """exp(s / temperature) over its sum, for scores s >= max - n sigma; sigma over the scores that a query sees.

    Args:
        n: >= 0; 0 keeps the maximum only.
        temperature: > 0; above 1 flatter; which scores are kept does not depend on it.
    """
    from runner.kernels import top_n_sigma_softmax

    return lambda: lambda scores: top_n_sigma_softmax(scores, n, temperature=temperature)
