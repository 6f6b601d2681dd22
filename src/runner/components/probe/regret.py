"""Regret of learning from noisy labels: mistakes that nobody could foresee, because the label hid them; and two scores to abstain by."""

from typing import Literal

import torch
from torch.nn import functional as F

from runner import card

CARD = card(
    paper="regretful2025",
    source="Nagaraj et al. 2025, Regretful Decisions under Label Noise; authors' code sujaynagaraj/regretful_decisions, noise.py (posterior, typical draws) "
    "and metrics.py (ambiguity, regret); multi-class here, the models are linear",
    better={"regret": "min", "regret_kept": "min", "risk_kept": "min"},
    tasks=("classification",),
)


def posterior(y, rate: float, classes: int):
    """P(true class | label) (C, C), rows are labels, for symmetric noise of this rate; the prior is what explains the labels' frequencies."""
    matrix = torch.full((classes, classes), rate / (classes - 1), dtype=torch.float64)
    matrix.fill_diagonal_(1 - rate)
    seen = torch.bincount(y.cpu(), minlength=classes).double() / len(y)
    prior = torch.linalg.lstsq(matrix.T, seen.unsqueeze(1)).solution[:, 0].clamp_min(1e-3)
    joint = prior.unsqueeze(1) * matrix
    return (joint / joint.sum(0)).T


def plausible(y, rate: float, classes: int, models: int, tolerance: float, generator):
    """(models, n) labels that may be the true ones; draws that change a share of the labels far from the expected one are drawn again, 20 times at most."""
    chances, drawn = posterior(y, rate, classes)[y.cpu()], []
    expected = (1 - chances.gather(1, y.cpu().unsqueeze(1))).mean().item()
    for _ in range(models):
        for _ in range(20):
            labels = torch.multinomial(chances, 1, generator=generator)[:, 0]
            if abs((labels != y.cpu()).double().mean().item() - expected) <= tolerance * expected:
                break
        drawn.append(labels)
    return torch.stack(drawn).to(y.device)


def linear(x, labels, classes: int, steps: int, lr: float = 0.05, decay: float = 1e-3):
    """The classes (models, n) that as many linear classifiers, one a set of labels, predict for the samples that they were trained on."""
    x = F.pad(x, (0, 1), value=1.0)
    weights = torch.zeros(len(labels), x.shape[1], classes, device=x.device, requires_grad=True)
    optimizer = torch.optim.Adam([weights], lr)
    for _ in range(steps):
        optimizer.zero_grad()
        losses = F.cross_entropy((x @ weights).transpose(1, 2), labels, reduction="none").mean(1).sum()
        (losses + decay * weights[:, :-1].square().sum()).backward()
        optimizer.step()
    return (x @ weights.detach()).argmax(-1)


class Regret:
    splits = ("train",)

    def __init__(self, rate, by, abstain, models, tolerance, steps):
        self.rate, self.by, self.abstain, self.models, self.tolerance, self.steps = rate, by, abstain, models, tolerance, steps

    def measure(self, state, split):
        if split.clean is None:
            return {}
        batches = list(state.predictions(split))
        z = torch.cat([batch.z for batch in batches]).float()
        guess = z.argmax(-1)
        mistake, foreseen = guess != split.clean, guess != split.y
        regret, score = mistake != foreseen, -z.softmax(-1).amax(-1)
        if self.by == "ambiguity":
            generator = torch.Generator().manual_seed(state.rng.derive("probe/regret"))
            labels = plausible(split.y, self.rate, z.shape[-1], self.models, self.tolerance, generator)
            x = torch.cat([batch.x.flatten(1).float() for batch in batches])
            score = (linear(x, labels, z.shape[-1], self.steps) != labels).float().mean(0)
        kept = score.argsort(stable=True)[: len(score) - round(self.abstain * len(score))]
        share = lambda what: 100 * what.double().mean()
        return {"risk": share(mistake), "regret": share(regret), "risk_kept": share(mistake[kept]), "regret_kept": share(regret[kept])}


def build(
    rate: float = 0.2, by: Literal["ambiguity", "confidence"] = "ambiguity", abstain: float = 0.2, models: int = 20, tolerance: float = 0.1, steps: int = 100
):
    """risk: percent of mistakes; regret: of samples where the label hides a mistake or shows one that is none; both also for those not abstained from.

    Ambiguity is the share of models, each trained on a draw of plausible true labels, that err by their own draw.

    Args:
        rate: in [0, 1); share of wrong labels, taken to be symmetric, that the draws of plausible labels go by.
        by: abstain where the ambiguity is largest, or where the network's confidence is smallest.
        abstain: in [0, 1); share of the samples abstained from.
        models: >= 1; draws of plausible labels.
        tolerance: > 0; how far the share of changed labels may be from the expected one, relative to it.
        steps: >= 1; Adam steps of each linear model.
    """
    return Regret(rate, by, abstain, models, tolerance, steps)
