"""How well the answers of a crowd were put together."""

import torch

from runner import card

CARD = card(
    paper="toptwo2023", arxiv="2301.00006", source="Jeong & Chung 2023, section 5: recovery of the first and the second answer",
    better={"first": "max", "second": "max"}, tasks=("classification",),
)  # fmt: skip


class Crowd:
    splits = ("train",)

    def measure(self, state, split):
        labels = state.per_sample.get("crowd_labels")
        if labels is None or split.clean is None or "confusing" not in split.side:
            return {}
        top = labels.topk(2, 1)[1]
        found = {"first": 100 * (top[:, 0] == split.clean).double().mean(), "second": 100 * (top[:, 1] == split.side["confusing"]).double().mean()}
        q = labels.gather(1, top)
        return found | {"clarity_error": (q[:, 0] / q.sum(1) - split.side["clarity"].to(torch.float)).abs().mean()}


def build():
    """first, second: percent of the samples whose true class is put first, whose confusing answer second; clarity_error: mean |q - true q|.

    Reads what a method wrote to `per_sample["crowd_labels"]` (n, C); measures nothing where there is none.
    """
    return Crowd()
