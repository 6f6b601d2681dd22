"""ADELE: each class's labels are corrected once the network begins to memorise them, and predictions must agree across scales. Liu et al. 2022."""

import numpy as np
import torch
from torch.nn import functional as F

from runner import card

CARD = card(
    paper="adele2022",
    arxiv="2110.03740",
    source="Liu et al. 2022, by the authors' code Kangningthu/ADELE, SegThor/brat/label_correction.py, train_segthor.py and lib/utils/JSD_loss.py; "
    "drop 0.9, tau 0.7 (SegTHOR, 0.8 for VOC), rho 0.8, lam 1, scales 0.7 and 1.5 from README.md; logits are not divided by the number of scales here",
    off={"scales": [], "drop": 1.0},
    rung={"batch": "target", "losses": "correct"},
    tasks=("segmentation",),
    cost=3,
    owns=("targets",),
)
START, FEWEST = 0.1, 4  # IoU from which a class counts as found; epochs to fit a curve of three numbers to


def curve(t, a, b, c):
    return a * (1 - np.exp(-(t**b) / c))


def slowing(iou) -> float:
    """By which share the slope of a (1 - exp(-t^b / c)), fitted to a class's IoU at epochs t = 1, 2, ..., has dropped from t = 1 to the last; 0 if unknown.

    Late epochs count more, as in the authors' code. The curve begins when the class is found for good: one found by chance and lost again does not count.
    """
    from scipy.optimize import curve_fit

    found = 1 + max((k for k, v in enumerate(iou) if v < START), default=-1)
    y = np.asarray(iou[found:], float)
    if len(y) < FEWEST:
        return 0.0
    t = np.arange(1.0, len(y) + 1)
    try:
        (_, b, c), _ = curve_fit(curve, t, y, (1, 1, 1), np.geomspace(1, 0.1, len(y)), True, bounds=([0, 0, 1e-6], [1, 1, np.inf]))
    except RuntimeError:
        return 0.0
    return float(-np.expm1((1 - t[-1] ** b) / c + (b - 1) * np.log(t[-1])))  # 1 - f'(t) / f'(1)


def corrected(labels, p, chosen, tau: float):
    """Labels (n, H, W) after a correction of the chosen classes (C,) by probabilities p (n, H, W, C).

    A pixel becomes what is predicted with more than tau, where its label and the prediction are of chosen classes or the ground, and the
    image has the predicted class.
    """
    chosen, sure = chosen.clone(), p.amax(-1) > tau
    there = F.one_hot(labels, len(chosen)).flatten(1, 2).amax(1).bool()  # (n, C)
    affected = (there & chosen).any(1)[:, None, None]
    chosen[0], there[:, 0] = True, True
    guess = p.argmax(-1)
    known = there.gather(1, guess.flatten(1)).view_as(guess)
    return torch.where(sure & chosen[labels] & chosen[guess] & known & affected, guess, labels)


class Adele:
    def __init__(self, lam, scales, drop, every, tau, rho):
        self.lam, self.scales, self.drop, self.every, self.tau, self.rho = lam, list(scales), drop, every, tau, rho
        self.curves, self.begun = [], []  # IoU of each epoch and class; epochs after which a class's correction began, 0 before that

    def setup(self, state):
        state.per_sample["adele"] = state.data.train.y.clone()
        self.counts = torch.zeros(3, state.info.outputs, dtype=torch.long, device=state.device)
        self.begun = [0] * state.info.outputs

    def batch(self, state, batch):
        batch.t = state.per_sample["adele"][batch.i]

    def outputs(self, state, x):
        """Logits for the images at each further scale, at the size of the images."""
        for scale in self.scales:
            z = state.model(F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=True, recompute_scale_factor=True))
            yield F.interpolate(z.movedim(-1, 1), size=x.shape[-2:], mode="bilinear", align_corners=True).movedim(1, -1)

    def losses(self, state, losses, batch):
        if not state.replay:
            guess, classes = batch.z.argmax(-1), state.info.outputs
            for k, v in enumerate((batch.t[guess == batch.t], guess, batch.t)):
                self.counts[k] += torch.bincount(v.flatten(), minlength=classes)
        if not self.scales:
            return losses
        mean = lambda v: v.flatten(1).mean(1)
        z = [batch.z, *self.outputs(state, batch.x)]
        given = [mean(state.loss(v, batch.t)) for v in z]
        log_p = torch.stack([v.float().log_softmax(-1) for v in z])
        q = log_p.exp().mean(0)
        gap = (log_p.exp() * (log_p - q.clamp_min(1e-12).log())).sum(-1).mean(0)  # mean over the scales of KL(p_k || q)
        sure = (q.flatten(1).amax(1) >= self.rho).float()
        return losses - given[0] + sum(given) / len(z) + self.lam * sure * mean(gap)

    def epoch_end(self, state):
        both, guess, given = self.counts.double()
        self.curves.append((both / (guess + given - both).clamp_min(1)).tolist())
        self.counts.zero_()
        epoch = len(self.curves)
        for c in range(1, len(self.begun)):
            if not self.begun[c] and slowing([row[c] for row in self.curves]) > self.drop:
                self.begun[c] = epoch
        chosen = [begun == epoch or (bool(begun) and epoch % self.every == 0) for begun in self.begun]
        if any(chosen):
            self.correct(state, torch.tensor(chosen, device=state.device))

    @torch.no_grad()
    def correct(self, state, chosen):
        """The labels of these classes, by the mean prediction over all scales."""
        labels, training = state.per_sample["adele"], state.model.training
        state.model.eval()
        for batch in state.data.train.batches(torch.arange(len(labels)), state.eval_batch, state.device):
            z = [state.predict(batch.x), *self.outputs(state, batch.x)]
            labels[batch.i] = corrected(labels[batch.i], torch.stack([v.softmax(-1) for v in z]).mean(0), chosen, self.tau)
        state.model.train(training)


def build(lam: float = 1.0, scales: list[float] = (0.7, 1.5), drop: float = 0.9, every: int = 10, tau: float = 0.7, rho: float = 0.8):
    """A class is corrected when the slope of its fitted IoU with the labels has dropped by `drop`, and from then on at every tenth epoch.

    Loss: the mean over the image at all scales, + lam mean KL(prediction at a scale || their mean). `per_sample["adele"]` holds the labels in use.

    Args:
        lam: >= 0; weight of the agreement of scales.
        scales: > 0; further scales of the images, beside 1; none for no agreement.
        drop: in [0, 1]; share of its slope at the first epoch that the IoU's growth has lost when the correction begins; 1 for never.
        every: >= 1; epochs between two corrections of a class (10 for SegTHOR, 1 for VOC).
        tau: in [0, 1]; confidence from which a prediction replaces a label.
        rho: in [0, 1]; confidence that some pixel of an image must reach for the agreement to count there.
    """
    return Adele(lam, scales, drop, every, tau, rho)
