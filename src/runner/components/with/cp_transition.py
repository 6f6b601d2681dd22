"""The transition matrix from several labels of each sample: two leave it open, three determine it. Forward correction with what was found."""

from typing import Literal

import torch

from runner import UserError, card

CARD = card(
    paper="identifiability2023",
    arxiv="2202.02016",
    source="Liu, Cheng & Zhang 2023, theorem 1 (Kruskal's condition on the joint of three labels, a CP decomposition); neighbours as further labels: "
    "Zhu, Song & Liu 2021 (2102.05291); correction: Patrini et al. 2017 (1609.03683), theorem 2",
    off={"labels": 0},
    close=True,
    rung={"losses": "correct"},
    tasks=("classification",),
    uses=("loss", "outputs"),
)


def fit(labels, weights, prior, matrix, steps: int):
    """EM for sum_k prior_k prod_j T[k, l_j], the joint of the labels of one sample, from a first guess.

    Args:
        labels: (n, p) of n samples or kinds of samples, weights: (n,) how often each.
        prior: (C,), matrix: (C, C).

    Returns:
        prior, matrix, and the mean log-likelihood before the last step.
    """
    classes, share = len(prior), (weights / weights.sum()).unsqueeze(1)
    seen = torch.nn.functional.one_hot(labels, classes).sum(1).to(matrix)  # (n, C): how often each label
    for _ in range(steps):
        joint = seen @ matrix.clamp_min(1e-12).log().T + prior.clamp_min(1e-12).log()
        likelihood = (share * joint.logsumexp(1, keepdim=True)).sum()
        mass = share * joint.softmax(1)
        prior = mass.sum(0)
        matrix = mass.T @ seen
        matrix = matrix / matrix.sum(1, keepdim=True).clamp_min(1e-12)
    return prior, matrix, likelihood


def neighbours(split, count: int, chunk: int = 1024):
    """Labels (n, 1 + count) of each sample and of those nearest to it, by the cosine of the inputs."""
    rows = torch.arange(len(split))
    x = torch.cat([split.fetch(part).x.flatten(1).float() for part in rows.split(chunk)])
    x = torch.nn.functional.normalize(x - x.mean(0))
    found = []
    for part in rows.to(x.device).split(chunk):
        near = x[part] @ x.T
        near[torch.arange(len(part)), part] = -torch.inf
        found.append(near.topk(count).indices)
    return torch.cat([split.y.unsqueeze(1), split.y[torch.cat(found)]], 1)


class CPTransition:
    def __init__(self, labels, source, starts, steps):
        self.labels, self.source, self.starts, self.steps = labels, source, starts, steps

    def setup(self, state):
        train, classes = state.data.train, state.info.outputs
        self.matrix = torch.eye(classes, device=state.device)
        if self.labels:
            self.matrix = self.estimate(self.observed(train), classes, state.rng("with/cp_transition")).to(self.matrix)
        state.per_sample["transition"] = self.matrix.T[train.y]

    def observed(self, train):
        if self.source == "neighbours":
            return neighbours(train, self.labels - 1)
        given = train.side.get("annotations")
        if given is None or given.shape[1] < self.labels:
            raise UserError(f"with/cp_transition needs {self.labels} labels of each sample; add noise=annotators noise.count={self.labels}")
        return given[:, : self.labels]

    def estimate(self, labels, classes: int, generator):
        """T from the start with the highest likelihood; each start is a random matrix with a dominant diagonal."""
        kinds, counts = labels.sort(1)[0].unique(dim=0, return_counts=True)
        best, found = -torch.inf, None
        for _ in range(self.starts):
            rows = -torch.rand(classes, classes, generator=generator, dtype=torch.float64).log()
            start = (torch.eye(classes, dtype=torch.float64) + rows / rows.sum(1, keepdim=True)) / 2
            prior = torch.full((classes,), 1 / classes, dtype=torch.float64)
            _, matrix, likelihood = fit(kinds, counts.double(), prior.to(kinds.device), start.to(kinds.device), self.steps)
            if likelihood > best:
                best, found = likelihood, matrix
        return found

    def losses(self, state, losses, batch):
        noisy = (batch.z.float().softmax(-1) @ self.matrix).clamp_min(1e-30).log()
        return losses - state.loss(batch.z, batch.t) + state.loss(noisy, batch.t)  # what a learner adds to the loss stays


def build(labels: int = 3, source: Literal["annotators", "neighbours"] = "neighbours", starts: int = 3, steps: int = 300):
    """loss(log(T' softmax(z)), t), with T fitted by EM to the joint frequencies of so many labels of each sample.

    Args:
        labels: in [0, 5]; labels of each sample that are looked at; 0 for no correction.
        source: those of noise=annotators, or the sample's own and those of the samples nearest to it.
        starts: >= 1; random first guesses, of which the likeliest result is taken.
        steps: >= 1; of EM.
    """
    return CPTransition(labels, source, starts, steps)
