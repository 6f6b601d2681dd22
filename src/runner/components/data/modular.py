"""Modular arithmetic as a language: `a o b =` is read and the answer predicted; the problem on which grokking was found."""

from typing import Literal

import torch

from runner import card
from runner.components.data._tables import held_out
from runner.core.data import Data, Info, Split

CARD = card(
    paper="grokking2022",
    arxiv="2201.02177",
    source="Power et al. 2022, section 2 and appendix A.1; authors' code openai/grok, grok/data.py (modulus 97, all pairs, loss on the answer alone)",
    tasks=("language",),
)


def build(modulus: int = 97, operation: Literal["add", "subtract", "multiply", "divide"] = "add", share: float = 0.5, split: int = 0):
    """All pairs of residues: x = [a, b, =] of shape (n, 3), y = [a o b] of shape (n, 1); the model gives logits of that one position.

    Args:
        modulus: >= 2; p; a prime for division.
        operation: of the two residues; division leaves out b = 0.
        share: in (0, 1); share of all equations that are trained on; the others are the test.
        split: >= 0; which equations are trained on.
    """
    p = modulus
    a, b = torch.cartesian_prod(torch.arange(p), torch.arange(p)).unbind(1)
    if operation == "divide":
        if any(p % k == 0 for k in range(2, int(p**0.5) + 1)):
            raise ValueError(f"operation=divide needs a prime modulus, not {p}")
        c, b = a[b > 0], b[b > 0]
        a = b * c % p
    else:
        c = {"add": a + b, "subtract": a - b, "multiply": a * b}[operation] % p
    x, y = torch.stack([a, b, torch.full_like(a, p)], 1), c.unsqueeze(1)
    train, test = held_out(c, 1 - share, split, False)
    if not len(train) or not len(test):
        raise ValueError(f"share={share} of {len(c)} equations leaves a split empty")
    return Data(Info("language", (3,), p + 1, predicted=1), Split(x[train], y[train]), Split(x[test], y[test]))
