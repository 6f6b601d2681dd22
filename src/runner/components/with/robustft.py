"""RobustFT: experts tell which labels to believe, samples near believed ones relabel the others, and of these the least certain half is left out."""

import importlib
from typing import Literal

import torch
from torch import Tensor

from runner import UserError, card
from runner.components._features import classifier, inputs
from runner.core.targets import soft

regression = importlib.import_module("runner.components.with._regression").regression  # `with` is a keyword

CARD = card(
    paper="robustft2024",
    arxiv="2412.14922",
    source="Luo et al. 2024; authors' code luo-junyu/RobustFT, robustft.py: clean where both experts agree with the label, context from the nearest clean "
    "samples, entropy below the median. Its language models are replaced by a logistic regression (plain), neighbours (reasoning) and their mean (review)",
    rung={"batch": "target"},
    tasks=("classification",),
    owns=("targets",),
)


def neighbours(x: Tensor, pool: Tensor, y: Tensor, k: int, classes: int, same: bool = False) -> Tensor:
    """Shares of the classes (n, C) among the k samples of `pool` (m, d), labelled y, nearest to each of x (n, d); `same`: x is the pool, itself left out."""
    found, labels = [], soft(y, classes)
    for start in range(0, len(x), 1024):
        distance = torch.cdist(x[start : start + 1024], pool)
        if same:
            rows = torch.arange(len(distance), device=x.device)
            distance[rows, start + rows] = torch.inf
        found.append(labels[distance.topk(min(k, len(pool)), largest=False).indices].mean(1))
    return torch.cat(found)


def held_out(x: Tensor, y: Tensor, folds: int, classes: int, decay: float, generator) -> Tensor:
    """Probabilities (n, C) of each sample by a logistic regression on the other folds."""
    fold = (torch.randperm(len(x), generator=generator) % folds).to(x.device)
    found = torch.zeros(len(x), classes, device=x.device)
    for k in range(folds):
        weight, bias = regression(x[fold != k], y[fold != k], classes, decay)
        found[fold == k] = (x[fold == k] @ weight + bias).softmax(-1)
    return found


class RobustFT:
    def __init__(self, quantile, k, folds, decay, space):
        self.quantile, self.k, self.folds, self.decay, self.space = quantile, k, folds, decay, space

    @torch.no_grad()
    def places(self, state) -> Tensor:
        """Where the training samples are in the space (n, d)."""
        train = state.data.train
        if self.space == "inputs" and state.info.vocabulary is not None:
            raise UserError("with/robustft works on numbers, which token ids are not: set with.robustft.space=features")
        batches = train.batches(torch.arange(len(train)), state.eval_batch, state.device)
        if self.space == "inputs":
            return torch.cat([b.x for b in batches]).flatten(1).float()
        training = state.model.training
        state.model.eval()
        with inputs(classifier(state.model, "with/robustft")) as seen:
            for batch in batches:
                state.model(batch.x)
        state.model.train(training)
        return torch.cat(seen).flatten(1).float()

    def setup(self, state):
        train, classes, x = state.data.train, state.info.outputs, self.places(state)
        plain = held_out(x, train.y, self.folds, classes, self.decay, state.rng("with/robustft"))
        reasoned = neighbours(x, x, train.y, self.k, classes, same=True)
        clean = (plain.argmax(1) == train.y) & (reasoned.argmax(1) == train.y)
        labels, kept = train.y.clone(), clean.clone()
        if clean.any() and not clean.all():
            context = neighbours(x[~clean], x[clean], train.y[clean], self.k, classes)
            labels[~clean] = (context + reasoned[~clean]).argmax(1)
            entropy = torch.special.entr(context).sum(1)
            kept[~clean] = entropy <= entropy.quantile(self.quantile) if self.quantile else torch.zeros_like(entropy).bool()
        state.per_sample["robustft"] = labels
        state.per_sample["robustft/kept"] = kept
        state.per_sample["selected"] = clean.float()

    def batch(self, state, batch):
        kept = state.per_sample["robustft/kept"][batch.i]
        if not kept.all():
            batch = batch.take(kept if kept.any() else slice(0, 1))
            batch.w = batch.w if kept.any() else torch.zeros(1, device=batch.x.device)
        batch.t = state.per_sample["robustft"][batch.i]
        return batch


def build(quantile: float = 0.5, neighbours: int = 10, folds: int = 5, decay: float = 1e-2, space: Literal["inputs", "features"] = "inputs"):
    """Before the training: labels that both experts confirm are kept, the others replaced by what the context of confirmed neighbours says.

    The experts are a logistic regression that has not seen the sample, and the sample's nearest neighbours; both have the labels as they are.

    Args:
        quantile: in [0, 1]; share of the relabelled samples that is used, those whose context has the least entropy; 0 for none.
        neighbours: >= 1; samples in a vote and in a context.
        folds: >= 2; of the logistic regression.
        decay: >= 0; its penalty on squared weights.
        space: where both work: on the inputs, whose numbers must mean something, as those of token ids do not, or on the features, that is what the
            classifier, the last linear layer, is given by the network as it starts, such as a pretrained one.
    """
    return RobustFT(quantile, neighbours, folds, decay, space)
