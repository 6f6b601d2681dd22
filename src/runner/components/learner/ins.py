"""INS: a classifier of instances from labels of bags, by contrast between instances and pseudo-labels from prototypes."""

import copy

import torch
from torch import nn
from torch.nn import functional as F

from runner import Duration, UserError, card
from runner.components._features import classifier, inputs
from runner.core.data import LoadedSplit
from runner.core.targets import is_hard, soft

CARD = card(
    paper="ins2023",
    arxiv="2307.02249",
    source="Qu et al. 2023, section 3; authors' code miccaiif/INS, model.py, utils/utils_loss.py, train_withbag_cifar.py; as PiCO, Wang et al. 2022",
    off={"warmup": "0ep", "contrast": 0.0, "bag": 0.0, "memory": 1.0},
    close=True,
    tasks=("classification",),
    owns=("loss", "targets"),
)


def moved(prototypes, q, label, decay: float):
    """mu_r <- decay mu_r + (1 - decay) q for one sample after the other, then on the unit sphere."""
    member = F.one_hot(label, len(prototypes)).to(q)
    later = member.flip(0).cumsum(0).flip(0) - member  # samples of the class that come after this one
    weights = (1 - decay) * decay**later * member
    return F.normalize(decay ** member.sum(0)[:, None] * prototypes + weights.T @ q)


def contrast(q, k, queue, label, queued, temperature: float):
    """Losses (B,): -mean over the positives, those of the same label, of log softmax(q . others / temperature); the own key alone where `label` is None."""
    if label is None:
        return -(torch.cat([(q * k).sum(1, keepdim=True), q @ queue.T], 1) / temperature).log_softmax(1)[:, 0]
    others, labels = torch.cat([q, k, queue]), torch.cat([label, label, queued])
    itself = torch.eye(len(q), len(others), device=q.device).bool()
    log_p = (q @ others.T / temperature).masked_fill(itself, -torch.inf).log_softmax(1)
    same = (label[:, None] == labels) & ~itself
    return -log_p.masked_fill(~same, 0).sum(1) / same.sum(1)


class INS:
    def __init__(self, warmup, contrast, bag, memory, queue, width, temperature, key_decay, jitter):
        self.warmup, self.contrast, self.weight, self.memory, self.temperature = warmup, contrast, bag, memory, temperature
        self.size, self.width, self.key_decay, self.jitter = queue, width, key_decay, jitter
        self.followed, self.restarts = -1, 0  # the step at which the key encoder has followed last, and how often the training had begun anew

    def setup(self, state):
        train, d = state.data.train, state.device
        self.last = classifier(state.model, "learner/ins")
        self.bag = train.side.get("bag", torch.arange(len(train), device=d))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(state.rng.derive("learner/ins"))
            n = self.last.in_features
            self.head = nn.Sequential(nn.Linear(n, n), nn.ReLU(), nn.Linear(n, self.width)).to(d)
            self.queue = F.normalize(torch.randn(self.size, self.width)).to(d)
        self.key, self.key_head = (copy.deepcopy(m).requires_grad_(False) for m in (state.model, self.head))
        self.queued, self.place = torch.full((self.size,), -1, device=d), 0
        self.prototypes = torch.zeros(state.info.outputs, self.width, device=d)
        labels = soft(train.y, state.info.outputs)
        self.allowed = labels.clone()
        self.allowed[:, 0] = 1  # instances of a positive bag may be negative
        state.per_sample["ins"] = self.allowed / self.allowed.sum(1, keepdim=True) if self.memory < 1 else labels

    def both(self, model, head, x):
        """Outputs and projected features, on the unit sphere."""
        with inputs(classifier(model, "learner/ins")) as seen:
            z = model(x)
        return z, F.normalize(head(seen[0]).float())

    def view(self, state, batch):
        """A second view: another augmentation where there is one for whole batches, and noise."""
        train, stream = state.data.train, state.rng("learner/ins", batch.x.device)
        x = batch.x if train.augment is None or isinstance(train, LoadedSplit) else train.augment(train.fetch(batch.i).x, stream)
        return x + self.jitter * torch.randn(x.shape, generator=stream, device=x.device)

    @torch.no_grad()
    def follow(self, state):
        """The key encoder is a running mean of the network, which it follows once a step, and takes over where a training begins anew."""
        if self.followed == state.step:
            return
        share = 1 - self.key_decay if self.restarts == state.restarts else 1.0
        self.followed, self.restarts = state.step, state.restarts
        for mine, its in ((self.key, state.model), (self.key_head, self.head)):
            for a, b in zip(mine.parameters(), its.parameters(), strict=True):
                a.lerp_(b, share)

    def compute(self, state, batch):
        if not is_hard(batch.t) and is_hard(batch.y):
            raise UserError("learner/ins has targets of its own for the samples as they are: it does not go with what mixes them, as mixup")
        batch.z, q = self.both(state.model, self.head, batch.x)
        if not self.contrast and self.memory == 1:
            return state.loss(batch.z, batch.t) + self.bags(state, batch)
        self.follow(state)
        started, allowed = state.step >= state.clock.steps(self.warmup), self.allowed[batch.i]
        with torch.no_grad():
            _, k = self.both(self.key, self.key_head, self.view(state, batch))
            label = (batch.z.float().softmax(1) * allowed).argmax(1)
        if started and not state.replay:
            guess = ((q.detach() @ self.prototypes.T).softmax(1) * allowed).argmax(1)
            table = state.per_sample["ins"]
            table[batch.i] = self.memory * table[batch.i] + (1 - self.memory) * F.one_hot(guess, table.shape[1])
        losses = state.loss(batch.z, state.per_sample["ins"][batch.i])
        if self.contrast:
            losses = losses + self.contrast * contrast(q, k, self.queue, label if started else None, self.queued, self.temperature)
        if not state.replay:
            self.prototypes = moved(self.prototypes, q.detach(), label, 0.9)
            rows = (self.place + torch.arange(len(k), device=k.device)) % self.size
            self.queue, self.queued = self.queue.index_put((rows,), k), self.queued.index_put((rows,), label)
            self.place = (self.place + len(k)) % self.size
        return losses + (self.bags(state, batch) if started else 0)

    def bags(self, state, batch):
        """The loss of the highest score in a whole bag, of the batch's first bags, against the bag's label."""
        if not self.weight:
            return 0.0
        train = state.data.train
        whole = train.fetch(torch.isin(self.bag, self.bag[batch.i[:4]].unique()).nonzero()[:, 0])
        z, bag = state.model(whole.x), self.bag[whole.i]
        score, losses = z[:, 1:].amax(1) - z[:, 0], []
        for b in bag.unique():
            rows = (bag == b).nonzero()[:, 0]
            top = rows[score[rows].argmax()]
            losses.append(state.loss(z[top][None], whole.y[top][None]))
        return self.weight * torch.cat(losses).mean()


def build(
    warmup: Duration = "10ep", contrast: float = 0.5, bag: float = 1.0, memory: float = 0.9, queue: int = 1024, width: int = 64, temperature: float = 0.07,
    key_decay: float = 0.99, jitter: float = 0.1,
):  # fmt: skip
    """Cross entropy to soft labels of instances, plus a contrastive loss, plus a loss of the highest score of a bag. Class 0 is that of negative bags.

    The soft labels move to the nearest prototype that the bag's label allows; prototypes are running means of projected features.

    Args:
        warmup: time before soft labels move; until then instances contrast with all others.
        contrast: >= 0; weight of the contrastive loss.
        bag: >= 0; weight of the loss of whole bags.
        memory: in [0, 1]; of the soft labels (0.95 falling to 0.8 in the paper); 1 keeps the labels of the bags.
        queue: >= 1; keys that are kept (8192 in the paper).
        width: >= 1; dimensions of the projected features (128 in the paper).
        temperature: > 0; of the contrast.
        key_decay: in [0, 1); of the running mean of the weights that computes the keys (0.999 in the paper).
        jitter: >= 0; normal noise on the second view, beside the data's own augmentation.
    """
    return INS(warmup, contrast, bag, memory, queue, width, temperature, key_decay, jitter)
