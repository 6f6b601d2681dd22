"""A linear rise at the beginning, then constant."""

from runner import Duration, card

CARD = card(arxiv="1706.02677", source="Goyal et al. 2017, section 2.2: 5 epochs", off={"warmup": "0it"})


def build(warmup: Duration = "5ep"):
    """Factor (step + 1) / (rise + 1) during the rise, 1 after it.

    Args:
        warmup: length of the rise.
    """

    def make(clock):
        rise = clock.steps(warmup)
        return lambda step: min(1.0, (step + 1) / (rise + 1))

    return make
