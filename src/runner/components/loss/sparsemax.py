"""Sparsemax loss: a Huber-like classification loss that is 0 where the label leads every other class by 1."""

from runner import card
from runner.kernels import sparsemax_loss

CARD = card(
    paper="sparsemax2016", arxiv="1602.02068",
    source="Martins & Astudillo 2016, eq. 19, and section 3.5 for several labels; authors' code deep-spin/entmax losses.py",
    tasks=("classification", "language"),
)  # fmt: skip


def build():
    """<p - t, z> + (|t|^2 - |p|^2) / 2 with p = sparsemax(z), per sample; its gradient is p - t."""
    return sparsemax_loss
