"""U2 regression: only values above the prediction are trusted, since some of the lower ones are incomplete observations."""

from runner import card
from runner.components.loss._parts import wide

CARD = card(
    paper="u2regression2023",
    source="Katsuki & Osogami 2023, the unbiased gradient for losses whose lower side does not depend on the label, here absolute error",
    tasks=("regression",),
)


def build(up: float = 0.5):
    """z (1 - 2 up [t > z] / s), with s the share of the batch that lies above its prediction: its gradient is E grad z - 2 up E[grad z | t > z].

    That is the gradient of the absolute error of complete observations, where a share `up` of them lies above. With up = 1/2 no gradient moves all
    predictions together, and the intercept stays where it is. The value itself says nothing.

    Args:
        up: in (0, 1); share of complete observations above the regression function, 1/2 for symmetric noise.
    """

    def loss(outputs, target):
        z = wide(outputs)
        above = (target > z).to(z.dtype).detach()
        share = above.mean(0, keepdim=True).clamp_min(1 / len(above))
        return (z * (1 - 2 * up * above / share)).mean(-1)

    return loss
