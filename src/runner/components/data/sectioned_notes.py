"""Clinical-like notes in sections: sentences of the plan are to be told from others, and a section's heading says roughly which they are."""

from typing import Literal

import torch
from torch import Tensor

from runner import card
from runner.core.data import Data, Info, Split
from runner.core.rng import derive

CARD = card(
    paper="headinglabels2019",
    arxiv="1906.11930",
    source="generator for the setting of Poddar, Dandala & Devarakonda 2019: 13 % of 117,730 notes have a plan section with a heading that can be recognised",
    tasks=("classification",),
    tokens=True,
)
SECTIONS, SENTENCES, PHRASES, WORDS = 4, 3, 5, 3  # the plan is section 0; a sentence has at most 5 phrases of 3 words


def zipf(n: int, g: torch.Generator) -> Tensor:
    """Chances of n things that are in proportion to 1, 1/2, 1/3 ..., in a random order."""
    return (1 / torch.arange(1, n + 1).double())[torch.randperm(n, generator=g)]


def write(notes: int, phrases: Tensor, chances: Tensor, off_topic: float, topical: float, g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Sentences (n, words), padded with 0; the topic of each (n,) and the section in which it stands (n,)."""
    section = torch.arange(SECTIONS).repeat_interleave(SENTENCES).repeat(notes)
    n = len(section)
    strays = torch.rand(n, generator=g) < off_topic
    topic = (section + strays * torch.randint(1, SECTIONS, (n,), generator=g)) % SECTIONS
    source = torch.where(torch.rand(n, PHRASES, generator=g) < topical, topic[:, None], SECTIONS)
    drawn = torch.multinomial(chances, n * PHRASES, True, generator=g).view(-1, n, PHRASES).gather(0, source[None])[0]
    length = torch.randint(PHRASES // 2 + 1, PHRASES + 1, (n, 1, 1), generator=g)
    return (phrases[source, drawn] * (torch.arange(PHRASES)[:, None] < length)).flatten(1), topic, section


def build(
    notes: int = 5000, heading_rate: float = 0.13, off_topic: float = 0.08, topical: float = 0.8, vocabulary: int = 1000, phrases: int = 200,
    labels: Literal["headings", "truth"] = "headings", test_labels: Literal["headings", "truth"] = "truth", test_notes: int = 300, split: int = 0,
):  # fmt: skip
    """Sentences of 3 to 5 phrases of 3 words, as token ids, 0 after the end; class 0 is a sentence of the plan, class 1 any other.

    A note has 4 sections of 3 sentences, each written from the section's stock phrases and from common ones, all of the same words;
    some sentences stray from their section. Trained on are the notes with headings, whose sentences are labelled by their section; the test is of other notes.

    Args:
        notes: >= 10; of which some have headings.
        heading_rate: in (0, 1]; share of those that do.
        off_topic: in [0, 1]; share of the sentences of a section that belong to another one: how wrong the headings are.
        topical: in [0, 1]; share of a sentence's phrases that are of its topic.
        vocabulary: >= 10; token ids, padding included.
        phrases: >= 1; of each section.
        labels: of the sentences to train on: by their headings, or the truth.
        test_labels: of the test: the truth, or by headings.
        test_notes: >= 1; in the test.
        split: >= 0; which draw.
    """
    g = torch.Generator().manual_seed(derive(split, "sectioned_notes"))
    common = zipf(vocabulary - 1, g)
    table = torch.multinomial(common, (SECTIONS + 1) * phrases * WORDS, True, generator=g).view(SECTIONS + 1, phrases, WORDS) + 1
    chances, splits = torch.stack([zipf(phrases, g) for _ in table]), []
    for count, kind in ((max(1, round(heading_rate * notes)), labels), (test_notes, test_labels)):
        x, topic, section = write(count, table, chances, off_topic, topical, g)
        truth, heading = (topic != 0).long(), (section != 0).long()
        splits.append(Split(x.float(), truth))
        if kind == "headings":
            splits[-1].relabel(heading)
    return Data(Info("classification", (PHRASES * WORDS,), 2, vocabulary=vocabulary), *splits)
