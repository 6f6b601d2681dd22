"""One-sided cleaning of a catch-all class: negatives that lie among positives are taken out or relabelled, and the network is trained again."""

from typing import Literal

import torch
from torch.nn import functional as F

from runner import Duration, card
from runner.components._features import classifier, inputs
from runner.core.phases import Phase

CARD = card(
    paper="tacrednoise2023",
    arxiv="2311.12298",
    source="Parekh, Anand & Awekar 2023: the two strategies as its abstract has them (positives are clean; a clean subset), here as a vote of the neighbours",
    off={"neighbours": 0, "restart": False},
    close=True,
    rung={"batch": "target"},
    owns=("phases", "targets"),
    tasks=("classification",),
    uses=("network",),
)


def nearest(x, others, own, k: int, chunk: int = 1024):
    """Indices into `others` of the k nearest to each of `x` by cosine, never itself: `own` (n,) is where it stands among them, or -1."""
    found = []
    for part, place in zip(F.normalize(x).split(chunk), own.split(chunk), strict=True):
        near = part @ F.normalize(others).T
        mine = place >= 0
        near[mine.nonzero()[:, 0], place[mine]] = -torch.inf
        found.append(near.topk(k).indices)
    return torch.cat(found)


class KnnCleaning:
    def __init__(self, strategy, action, neighbours, clean, warmup, restart):
        self.strategy, self.action, self.neighbours, self.clean, self.warmup, self.restart = strategy, action, neighbours, clean, warmup, restart
        self.start: dict[str, torch.Tensor] = {}

    def setup(self, state):
        train = state.data.train
        self.targets, self.kept = train.y.clone(), torch.ones(len(train), device=state.device)
        state.per_sample["selected"] = self.kept
        order = torch.randperm(len(train), generator=state.rng("with/knn_cleaning"))
        self.trusted = order[: max(1, round(self.clean * len(train)))].to(state.device)

    def phases(self, state):
        return [Phase("noisy", self.warmup, self.keep_start), Phase("cleaned", None, self.learn, fresh=True)] if self.restart else [Phase("noisy")]

    def keep_start(self, state):
        self.start = state.weights()

    def batch(self, state, batch):
        if state.phase:
            batch.t = self.targets[batch.i]
            kept = self.kept[batch.i]
            batch.w = kept * (len(kept) / kept.sum().clamp_min(1)) * (1 if batch.w is None else batch.w)

    def learn(self, state):
        if self.neighbours:
            self.flag(state)
        state.load_weights(self.start, anew=True)

    @torch.no_grad()
    def represent(self, state):
        """Inputs of the last linear layer and outputs, for all training samples."""
        outputs, training = [], state.model.training
        state.model.eval()
        with inputs(classifier(state.model, "with/knn_cleaning")) as seen:
            for batch in state.data.train.batches(torch.arange(len(state.data.train)), state.eval_batch, state.device):
                outputs.append(state.model(batch.x))
        state.model.train(training)
        return torch.cat(seen).float(), torch.cat(outputs)

    def suspicious(self, state, suspects):
        """Which of these samples, all of the catch-all class, seem to be positive, and what."""
        train, negative = state.data.train, state.info.outputs - 1
        features, outputs = self.represent(state)
        if self.strategy == "extrinsic":
            rows, known = self.trusted, (train.y if train.clean is None else train.clean)[self.trusted]
        else:  # the positive samples are taken to be right
            rows, known = torch.arange(len(train), device=state.device), train.y
        own = torch.full((len(train),), -1, device=state.device)
        own[rows] = torch.arange(len(rows), device=state.device)
        near = known[nearest(features[suspects], features[rows], own[suspects], min(self.neighbours, len(rows) - 1))]
        counts = F.one_hot(near, state.info.outputs).sum(1)
        wrong = counts[:, :negative].sum(1) > counts[:, negative]
        if self.strategy != "extrinsic":
            wrong |= outputs[suspects].argmax(1) != negative
        return wrong, (counts[:, :negative] + outputs[suspects, :negative].softmax(1)).argmax(1)

    def flag(self, state):
        suspects = (state.data.train.y == state.info.outputs - 1).nonzero()[:, 0]
        if not len(suspects):
            return
        wrong, labels = self.suspicious(state, suspects)
        if self.strategy == "random":
            wrong = wrong[torch.randperm(len(wrong), generator=state.rng("with/knn_cleaning")).to(wrong.device)]
        if self.action == "relabel":
            self.targets[suspects[wrong]] = labels[wrong]
        else:
            self.kept[suspects[wrong]] = 0


def build(
    strategy: Literal["intrinsic", "extrinsic", "random"] = "intrinsic", action: Literal["eliminate", "relabel"] = "eliminate",
    neighbours: int = 5, clean: float = 0.05, warmup: Duration | None = None, restart: bool = True,
):  # fmt: skip
    """After a warm-up, samples of the last class are taken out if most of their neighbours are positive; then a network is trained on what is left.

    Args:
        strategy: intrinsic looks at neighbours among all samples, as they are labelled, and at the network's own positive predictions;
            extrinsic at neighbours among samples whose true labels are given; random takes as many as intrinsic, any.
        action: eliminate, or relabel as the positive class of most neighbours.
        neighbours: >= 0; of each sample, by the cosine of the inputs of the last linear layer; 0 cleans nothing.
        clean: in (0, 1]; share of the training samples whose true labels are given, with strategy=extrinsic.
        warmup: length of the training on all samples; half of the run if not given.
        restart: train again, from the first weights; otherwise the run is one phase and nothing is cleaned.
    """
    return KnnCleaning(strategy, action, neighbours, clean, warmup, restart)
