"""How a method weighs the labels of images that show something against those of images that show the ground alone."""

from runner import card

CARD = card(
    arxiv="2210.01891",
    source="Dong et al. 2023, section 3: label-dense and label-sparse samples",
    better={"weight_gap": "max", "weight_auc": "max"},
    tasks=("segmentation",),
)


class SparseLabels:
    splits = ("train",)

    def measure(self, state, split):
        weights, dense = state.per_sample.get("selected"), (split.y > 0).flatten(1).any(1)
        if weights is None or dense.all() or not dense.any():
            return {}
        high, low = weights[dense].double(), weights[~dense].double()
        gap = high[:, None] - low
        area = ((gap > 0).double() + (gap == 0).double() / 2).mean()
        return {"weight_dense": 100 * high.mean(), "weight_gap": 100 * (high.mean() - low.mean()), "weight_auc": 100 * area}


def build():
    """weight_dense: mean weight, in percent, of the labels of training images with a labelled pixel; weight_gap: how much higher than without one.

    weight_auc: percent of the pairs of images of both kinds in which that with a labelled pixel has the higher weight.

    Reads what a method wrote to `per_sample["selected"]`; measures nothing where there is none, or where all images are of one kind.
    """
    return SparseLabels()
