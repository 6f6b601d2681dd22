"""RCAL: features from contrastive learning, whose classes are normal distributions; these are recovered from wrong and rare labels, and sampled from."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from runner import Duration, card
from runner.components._features import classifier, inputs
from runner.components.learner._calibration import borrowed, inliers, roots, statistics
from runner.core.phases import Phase

CARD = card(
    paper="rcal2023",
    arxiv="2211.10955",
    source="Zhang et al. 2023, section 3, as its abstract and public reading notes give it: local outlier factors, statistics of the nearest head classes, "
    "samples of normal distributions, features kept near the contrastive ones; the weights are this project's. Contrast: SimCLR (2002.05709) for MoCo",
    owns=("phases", "loss"),
    tasks=("classification",),
    images=True,
)


def contrast(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """(B,): cross entropy of telling a sample's other view among the views (B, d) of the batch, both ways."""
    views = F.normalize(torch.cat([a, b]))
    scores = (views @ views.T / temperature).float().fill_diagonal_(-1e9)
    other = torch.arange(len(views), device=a.device).roll(len(a))
    return F.cross_entropy(scores, other, reduction="none").view(2, -1).mean(0)


def view(x: Tensor, stream) -> Tensor:
    """Each image turned by up to 0.3 radians, scaled and sheared by up to a fifth, shifted by up to an eighth of its side, with noise and blank pixels."""
    turn, scale, shear, right, down = (torch.rand(5, len(x), generator=stream) * 2 - 1) * torch.tensor([0.3, 0.2, 0.2, 0.25, 0.25])[:, None]
    sine, cosine = turn.sin(), (1 + scale) * turn.cos()
    theta = torch.stack([cosine, shear - sine, right, sine, cosine, down], 1).view(-1, 2, 3).to(x)
    moved = F.grid_sample(x, F.affine_grid(theta, x.shape, align_corners=False), align_corners=False)
    blank = torch.rand(x.shape, generator=stream) < 0.1
    return (moved + 0.1 * torch.randn(x.shape, generator=stream).to(x)).masked_fill(blank.to(x.device), 0)


class RCAL:
    def __init__(self, pretraining, temperature, neighbours, limit, tail, nearest, keep, fill, stay):
        self.pretraining, self.temperature, self.neighbours, self.limit = pretraining, temperature, neighbours, limit
        self.tail, self.nearest, self.keep, self.fill, self.stay = tail, nearest, keep, fill, stay
        self.known: dict[str, Tensor] = {}

    def setup(self, state):
        self.last = classifier(state.model, "learner/rcal")
        d = self.last.in_features
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(state.rng.derive("learner/rcal"))
            self.project = nn.Sequential(nn.Linear(d, d), nn.ReLU(), nn.Linear(d, 32)).to(state.device)

    def phases(self, state):
        return [Phase("contrast", self.pretraining), Phase("classifier", None, begin=self.calibrate, fresh=True)]

    def features(self, state, x):
        """What the classifier is given (B, d)."""
        with inputs(self.last) as seen:
            state.model(x)
        return seen[0].flatten(1)

    @torch.no_grad()
    def calibrate(self, state):
        state.model.eval()
        train, classes = state.data.train, state.info.outputs
        passes = train.batches(torch.arange(len(train)), state.eval_batch, state.device)
        features = torch.cat([self.features(state, batch.x).float() for batch in passes])
        inside = inliers(features, train.y, classes, self.neighbours, self.limit)
        means, covariances, sizes = statistics(features[inside], train.y[inside], classes)
        means, covariances = borrowed(means, covariances, sizes, self.tail, self.nearest, self.keep)
        counts = train.y.bincount(minlength=classes)
        spread = features.var(0).sum() + 1e-8
        self.known = {
            "means": means,
            "roots": roots(covariances, 0.01 * float(spread) / features.shape[1]),
            "missing": (self.fill * counts.max() - counts).clamp_min(0) * (counts > 0),
            "spread": spread,
        }
        state.per_sample.update(rcal=features, selected=inside.float())

    def compute(self, state, batch):
        if not state.phase:
            stream = state.rng("learner/rcal")
            features = [self.features(state, view(batch.x, stream)) for _ in range(2)]
            batch.z = self.last(features[0]).detach()
            return contrast(*map(self.project, features), self.temperature)
        state.model.eval()  # its normalisation stands still, as where the distributions were taken
        features, known = self.features(state, batch.x), self.known
        batch.z = self.last(features)
        losses = state.loss(batch.z, batch.t)
        if known["missing"].any():
            stream = state.rng("learner/rcal")
            c = torch.multinomial(known["missing"].cpu().float(), len(batch.i), replacement=True, generator=stream).to(features.device)
            drawn = known["means"][c] + torch.einsum("bij,bj->bi", known["roots"][c], torch.randn(features.shape, generator=stream).to(features))
            share = known["missing"].sum() / (known["missing"].sum() + len(state.data.train))
            losses = (1 - share) * losses + share * state.loss(self.last(drawn), c)
        if self.stay:
            losses = losses + self.stay * (features - state.per_sample["rcal"][batch.i]).square().sum(1) / known["spread"]
        return losses


def build(
    pretraining: Duration | None = None,
    temperature: float = 0.2,
    neighbours: int = 10,
    limit: float = 1.2,
    tail: int = 3,
    nearest: int = 3,
    keep: float = 0.9,
    fill: float = 3.0,
    stay: float = 1.0,
):
    """First features by contrast of two views; then the mean loss over samples and drawn features, + stay |f - contrastive f|^2 / their variance.

    Features are drawn from normal distributions of each class's samples without outliers; rare classes borrow.
    per_sample["selected"] says which samples are no outliers.

    Args:
        pretraining: length of the training without labels; half of the run if not given.
        temperature: > 0; of the contrast.
        neighbours: >= 1; of the local outlier factor.
        limit: > 0; samples of a class with a larger factor are left out of its statistics.
        tail: >= 0; the smallest classes, which borrow.
        nearest: >= 1; classes that each of them borrows from.
        keep: in [0, 1]; weight of its own statistics.
        fill: >= 0; samples and drawn features together make each class so many times the largest; 0 draws none.
        stay: >= 0; weight of staying near the contrastive features.
    """
    return RCAL(pretraining, temperature, neighbours, limit, tail, nearest, keep, fill, stay)
