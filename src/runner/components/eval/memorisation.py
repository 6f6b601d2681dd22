"""What became of the wrong labels: fitted (memorised), seen through (corrected), or neither."""

from runner import card

CARD = card(
    arxiv="2007.00151", source="Liu et al. 2020, figure 1", better={"memorised": "min", "corrected": "max", "acc_clean": "max"}, tasks=("classification",)
)


class Memorisation:
    splits = ("train",)

    def measure(self, state, split):
        if split.clean is None:
            return {}
        fitted = corrected = wrong = noisy = true = total = 0
        for batch in state.predictions(split):
            clean, guess = split.clean[batch.i], batch.z.argmax(-1)
            bad = batch.y != clean
            wrong += bad.sum()
            noisy, true, total = noisy + (guess == batch.y).sum(), true + (guess == clean).sum(), total + len(clean)
            fitted += (bad & (guess == batch.y)).sum()
            corrected += (bad & (guess == clean)).sum()
        counts = {"acc_noisy": noisy / total, "acc_clean": true / total}
        if wrong:
            counts |= {"memorised": fitted / wrong, "corrected": corrected / wrong}
        return {name: 100 * share for name, share in counts.items()}


def build():
    """memorised: percent of the wrong labels that the model predicts; corrected: percent of them where it predicts the true class.

    acc_noisy, acc_clean: accuracy on all training samples in percent, against the labels they have and against the true ones.
    """
    return Memorisation()
