"""F1 of the tags of a sequence, beside that of the rules which tagged it."""

import torch

from runner import card

CARD = card(
    source="macro-averaged F1, as scikit-learn's f1_score with the tags that occur as its labels",
    better={"f1": "max", "over_rules": "max"},
    tasks=("language",),
)


def macro(guess, y):
    """Mean over the tags that occur in y of 2 right / (guessed + there), in percent."""
    scores = []
    for tag in y.unique():
        g, there = guess == tag, y == tag
        scores.append(200 * (g & there).sum() / (g.sum() + there.sum()))
    return torch.stack(scores).mean()


class Tags:
    def __init__(self, splits):
        self.splits = splits

    def measure(self, state, split):
        batches = list(state.predictions(split))
        y = torch.cat([b.y for b in batches])
        found = {"f1": macro(torch.cat([b.z.argmax(-1) for b in batches]), y)}
        if "rules" in split.side:
            found["rules_f1"] = macro(split.side["rules"], y)
            found["over_rules"] = found["f1"] - found["rules_f1"]
        return found


def build(splits: list[str] = ("test",)):
    """f1: in percent, the mean over the tags; rules_f1: that of side["rules"], where the data has it; over_rules: by how much f1 is better.

    Args:
        splits: where to measure: train, val, test.
    """
    return Tags(list(splits))
