"""Mean absolute error between the predicted probabilities and the label: symmetric, so tolerant to uniform label noise, but slow to fit."""

from runner import card
from runner.kernels import label_loss

CARD = card(paper="mae2017", arxiv="1712.09482", source="Ghosh et al. 2017, section 3: ||e_y - p||_1", tasks=("classification", "language"))


def build():
    """sum_c |t_c - p_c| = 2 - 2 p_y, per sample; of soft targets the mean over their labels, 2 - 2 <t, p>."""
    return lambda logits, target: 2 * label_loss(logits, target, "mae")
