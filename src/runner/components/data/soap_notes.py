"""Notes of two hospitals whose sentences are subjective, objective, assessment or plan; rules tag those of one, annotators a few of the other."""

from typing import Literal

import torch
from torch import Tensor

from runner import card
from runner.core.data import Data, Info, Split
from runner.core.rng import derive

CARD = card(
    paper="soapweak2022",
    arxiv="2211.14539",
    source="generator for the setting of Kwon, Yang & Yu 2022: rules over the fields of a note give weak tags; another hospital writes otherwise",
    tasks=("language",),
)
TAGS = 4
ORDER = {"source": [0, 1, 2, 3], "target": [2, 3, 0, 1]}  # SOAP and APSO


def write(notes: int, sentences: int, chances: Tensor, order: list[int], error: float, g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Sentences (n, T), their tags (n, T), and what the rules say (n, T): of each section one tag, wrong with probability `error`."""
    cuts = torch.rand(notes, sentences - 1, generator=g).argsort(1)[:, : TAGS - 1] + 1  # every section has a sentence
    place = (torch.arange(sentences)[None, :, None] >= cuts[:, None]).sum(-1)
    tag = torch.tensor(order)[place]
    x = torch.multinomial(chances[tag.flatten()], 1, generator=g).view(notes, sentences)
    wrong = (torch.rand(notes, TAGS, generator=g) < error) * torch.randint(1, TAGS, (notes, TAGS), generator=g)
    return x, tag, (tag + wrong.gather(1, place)) % TAGS


def build(
    notes: int = 1500, annotated: int = 50, sentences: int = 16, phrases: int = 60, overlap: float = 0.3, shift: float = 0.3, error: float = 0.15,
    test: Literal["source", "target"] = "source", test_notes: int = 300, split: int = 0,
):  # fmt: skip
    """A sentence is one of the stock phrases of its section, or one that all sections share; x and y are (n, sentences), tags 0 to 3.

    The source hospital's notes have the rules' tags, and S, O, A, P in this order; those of the target hospital, after them, true tags, other
    phrases and the order A, P, S, O. side["target"] says which are which; test.side["rules"] is what the rules say of the test.

    Args:
        notes: >= 1; of the source hospital, to train on.
        annotated: >= 0; of the target hospital, to train on.
        sentences: >= 4; in a note.
        phrases: >= 1; of each section in each hospital, and of all together; as frequent as 1, 1/2, 1/3 ...
        overlap: in [0, 1]; share of the sentences that any section may hold.
        shift: in [0, 1]; share of the other sentences in which the target hospital has phrases of its own.
        error: in [0, 1]; share of the sections that the rules tag wrongly.
        test: the hospital of the test.
        test_notes: >= 1; in the test.
        split: >= 0; which draw.
    """
    g = torch.Generator().manual_seed(derive(split, "soap_notes"))
    zipf = 1 / torch.arange(1, phrases + 1).double()
    zipf, none = zipf / zipf.sum(), torch.zeros(TAGS, TAGS * phrases).double()
    own, common = torch.block_diag(*[zipf] * TAGS), overlap * zipf.repeat(TAGS, 1)
    chances = {
        "source": torch.cat([(1 - overlap) * own, none, common], 1),
        "target": torch.cat([(1 - overlap) * (1 - shift) * own, (1 - overlap) * shift * own, common], 1),
    }
    draw = lambda count, hospital: write(count, sentences, chances[hospital], ORDER[hospital], error, g)
    weak, few = draw(notes, "source"), draw(annotated, "target")
    train = Split(torch.cat([weak[0], few[0]]), torch.cat([weak[1], few[1]]))
    train.relabel(torch.cat([weak[2], few[1]]))
    train.side["target"] = torch.arange(notes + annotated) >= notes
    x, y, rules = draw(test_notes, test)
    held = Split(x, y)
    held.side["rules"] = rules
    return Data(Info("language", (sentences,), (2 * TAGS + 1) * phrases), train, held)
