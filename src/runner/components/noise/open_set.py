"""Open-set noise: some training inputs belong to none of the classes; their labels stay."""

from dataclasses import replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from runner import UserError, card
from runner.core.rng import derive

CARD = card(
    paper="openset2018",
    arxiv="1804.00092",
    source="Wang et al. 2018, section 4.1: inputs are replaced by those of another source or by damaged ones, labels and sizes of the classes stay",
    off={"rate": 0.0},
    tasks=("classification",),
)


def change(x: Tensor, rows: Tensor, wrong: Tensor, source: str, seed: int) -> Tensor:
    """The inputs, those of the samples in `wrong` replaced; each by what depends on the sample's index alone."""
    stream, x = torch.Generator(), x.clone()
    for sample, row in zip(x, rows.tolist(), strict=True):
        if not wrong[row]:
            continue
        stream.manual_seed(derive(seed, row))
        if source == "permuted":
            drawn = sample.flatten()[torch.randperm(sample.numel(), generator=stream).to(sample.device)].view_as(sample)
        else:
            drawn = sample.min() + (sample.max() - sample.min()) * torch.rand(sample.shape, generator=stream).to(sample)
        sample.copy_(drawn)
    return x


def hold_out(data, held: int) -> Tensor:
    """Take the last classes out of the task and all splits but the training split; returns where that has them."""
    kept = data.info.outputs - held
    if kept < 2:
        raise UserError(f"noise=open_set: held={held} leaves {max(kept, 0)} of the {data.info.outputs} classes; at least 2 must stay")
    if data.train.clean is not None:
        raise UserError("noise=open_set: labels are wrong already, and may name classes that leave the task; let it come first: noise=[open_set,...]")
    for name, split in data.splits().items():
        if name != "train":
            split.resample((split.y < kept).nonzero()[:, 0])
    data.info = replace(data.info, outputs=kept)
    return data.train.y >= kept


def build(rate: float = 0.4, source: Literal["classes", "permuted", "uniform"] = "uniform", held: int = 2):
    """A share of the training inputs is replaced; `side["open_set"]` says which. With label noise beside it, the mixture of both kinds that web data have.

    Args:
        rate: in [0, 1]; share of the training samples whose input is replaced.
        source: uniform noise within the input's range, the input's own pixels permuted, or other classes: the data's last ones, which leave the task.
        held: >= 1; how many classes leave the task with source=classes.
    """

    def corrupt(data, generator):
        split = data.train
        outside = hold_out(data, held) if source == "classes" else torch.zeros(len(split), dtype=torch.bool)
        rows, pool = (~outside).nonzero()[:, 0], outside.nonzero()[:, 0]
        wrong = torch.zeros(len(rows), dtype=torch.bool)
        wrong[torch.randperm(len(rows), generator=generator)[: round(rate * len(rows))]] = True
        if source == "classes":
            if wrong.any() and not len(pool):
                raise UserError(f"noise=open_set: the training split has no sample of the {held} classes that leave the task; see data.train_size")
            labels = split.y[rows]
            taken = rows.clone()
            taken[wrong] = pool[torch.randint(len(pool), (int(wrong.sum()),), generator=generator)]
            split.resample(taken)
            split.y = labels
        elif wrong.any():
            seed = int(torch.randint(2**62, (), generator=generator))
            split.corrupt(partial(change, wrong=wrong, source=source, seed=seed))
        split.side["open_set"] = wrong

    return corrupt
