"""Whether the last token of an answer is right when the model writes the answer token by token."""

import torch

from runner import card

CARD = card(source="greedy decoding; exact match of the final answer as in He et al. 2025 (2410.20533)", better={"answer": "max"}, tasks=("language",))


class Answers:
    def __init__(self, among, splits):
        self.among, self.splits = among, splits

    def measure(self, state, split):
        right = 0
        for batch in split.batches(torch.arange(len(split)), state.eval_batch, state.device):
            x, k = batch.x.clone(), batch.y.shape[1]
            for t in range(k):
                guess = state.predict(x)[:, t, : self.among].argmax(-1)
                if t + 1 < k:
                    x[:, x.shape[1] - k + 1 + t] = guess
            right += (guess == batch.y[:, -1]).sum()
        return {"answer": 100 * right / len(split)}


def build(among: int | None = None, splits: list[str] = ("test",)):
    """answer: percent of the samples whose last label is predicted where the earlier ones, which are a part of the input, are the model's own predictions.

    For data whose k labels are each followed by itself as the next input, such as chain_arithmetic; earlier inputs are read only.

    Args:
        among: >= 1; only so many of the first classes are written, as the residues of chain_arithmetic; all if not given.
        splits: where to measure: train, val, test.
    """
    return Answers(among, list(splits))
