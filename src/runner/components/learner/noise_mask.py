"""A small policy network multiplies images by masks of Beta noise while the classifier is heated; then the classifier is fine-tuned without it."""

from typing import Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from runner import Duration, card
from runner.core.phases import Phase

CARD = card(
    paper="pgmask2024",
    arxiv="2406.14568",
    source="Yavuz & Yang 2024; authors' code ogrenenmakine/Policy-Gradient-Driven-Noise-Mask, _policy_gradient/create_model.py, train_one_epoch.py",
    owns=("phases", "loss"),
    tasks=("classification",),
    images=True,
)


class Policy(nn.Module):
    """Of each image the logarithms of the two parameters of a Beta distribution for each cell of the grid."""

    def __init__(self, channels: int, grid: int, width: int = 32):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(channels, width, 3, 2, 1), nn.ReLU(), nn.Conv2d(width, width, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.heads = nn.ModuleList(nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, grid * grid)) for _ in range(2))

    def forward(self, x):
        features = self.trunk(x)
        return torch.stack([head(features) for head in self.heads])


def density(mask, parameters):
    """log sum_cells p(mask) (B,), of masks (B, cells) and log parameters (2, B, cells)."""
    return torch.distributions.Beta(*parameters.float().exp()).log_prob(mask).logsumexp(1)


def blur(x, sigma: float):
    """A Gaussian blur of images (B, 1, H, W), mirrored at the edges."""
    reach = min(round(2 * sigma), *(n - 1 for n in x.shape[-2:]))
    if reach <= 0:
        return x
    kernel = torch.exp(-(torch.arange(-reach, reach + 1, device=x.device) ** 2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).to(x)
    x = F.pad(x, (reach,) * 4, mode="reflect")
    return F.conv2d(F.conv2d(x, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))


class NoiseMask:
    def __init__(self, masks, grid, sigma, share, heat, rate):
        self.masks, self.grid, self.sigma, self.share, self.heat, self.rate = masks, grid, sigma, share, heat, rate

    def setup(self, state):
        if self.masks == "learned":
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(state.rng.derive("learner/noise_mask"))
                self.policy = Policy(state.info.shape[0], self.grid).to(state.device)
                self.base = torch.rand(2, 1, self.grid**2).to(state.device)

    def phases(self, state):
        return [Phase("heat", self.heat), Phase("fine-tune", None, self.cool, fresh=True)]

    def cool(self, state):
        for optimizer in state.optimizers:
            for group in optimizer.param_groups:
                group["initial_lr"] *= self.rate

    def draw(self, state, parameters):
        """Masks (B, cells) of independent Beta draws."""
        seed = int(torch.randint(2**62, (), generator=state.rng("learner/noise_mask")))
        first, second = parameters.detach().float().exp().cpu().numpy()
        found = np.random.default_rng(seed).beta(first, second)
        return torch.tensor(found, dtype=torch.float32, device=parameters.device).clamp(1e-4, 1 - 1e-4)

    def masked(self, x, mask):
        mask = F.interpolate(mask.view(-1, 1, self.grid, self.grid), x.shape[-2:])
        return x * blur(mask, self.sigma)

    def compute(self, state, batch):
        if state.phase or self.masks == "none":
            batch.z = state.model(batch.x)
            return state.loss(batch.z, batch.t)
        if self.masks == "uniform":
            mask = self.draw(state, torch.zeros(2, len(batch.i), self.grid**2, device=batch.x.device))
            batch.z = state.model(self.masked(batch.x, mask))
            return state.loss(batch.z, batch.t)
        predicted = self.policy(batch.x)
        parameters = (1 - self.share) * self.base + self.share * predicted
        if not state.replay:
            self.base = 0.99 * self.base + 0.01 * predicted.detach().mean(1, keepdim=True)
        mask = self.draw(state, parameters)
        batch.z = state.model(self.masked(batch.x, mask))
        return density(mask, parameters) * state.loss(batch.z, batch.t)


def build(
    masks: Literal["learned", "uniform", "none"] = "learned", grid: int = 4, sigma: float = 1.0, share: float = 0.1, heat: Duration | None = None,
    rate: float = 0.1,
):  # fmt: skip
    """While heated: the loss of the masked image times log sum_cells p(mask), for classifier and policy alike (REINFORCE). Then fine-tuned, unmasked.

    A mask is drawn from Beta(exp a, exp b) in each cell of a coarse grid, enlarged and blurred; a and b are mostly running means over the images.

    Args:
        masks: learned, uniform for Beta(1, 1) and the plain loss, or none for the same two phases without masks.
        grid: >= 1; cells along each side (64 for 224 pixels in the paper).
        sigma: >= 0; deviation of the blur in pixels, which reaches twice as far (6 in the paper).
        share: in [0, 1]; of the policy's prediction for the image in a and b, the rest are the running means.
        heat: length of the first phase; half of the run if not given.
        rate: > 0; factor of the learning rate while fine-tuning.
    """
    return NoiseMask(masks, grid, sigma, share, heat, rate)
