"""Views and mixtures of inputs, contrastive losses of them, and the hyperplane between two groups of samples in the features that these teach."""

import torch
from torch import Tensor
from torch.nn import functional as F

from runner.core.data import LoadedSplit


def scaled(x: Tensor) -> Tensor:
    return (x - x.min()) / (x.max() - x.min()).clamp_min(1e-12)


def hyperplane(x: Tensor, noisy: Tensor, steps: int = 200) -> Tensor:
    """The probability (n,) of each sample to be noisy: logistic regression, both groups of equal weight, on standardised features (n, D)."""
    if noisy.all() or not noisy.any():
        return noisy.float()
    x = x.double()
    x = F.pad((x - x.mean(0)) / x.std(0, correction=0).clamp_min(1e-8), (0, 1), value=1.0)
    y, w = noisy.double(), torch.zeros(x.shape[1], dtype=torch.double, device=x.device, requires_grad=True)
    weight = torch.where(noisy, 0.5 / y.mean(), 0.5 / (1 - y).mean())
    search = torch.optim.LBFGS([w], max_iter=steps, tolerance_grad=1e-5, line_search_fn="strong_wolfe")

    def loss():
        w.grad = None
        value = F.binary_cross_entropy_with_logits(x @ w, y, weight)
        value.backward()
        return value

    with torch.enable_grad():
        search.step(loss)
    return (x @ w.detach()).sigmoid().float()


def pairs(one: Tensor, other: Tensor, temperature: float) -> Tensor:
    """The contrastive losses (B,) of two views: each is to find the other among all other views of the batch."""
    f = F.normalize(torch.cat([one, other]).float())
    near = (f @ f.T / temperature).fill_diagonal_(-torch.inf)
    partner = torch.arange(len(f), device=f.device).roll(len(one))
    return F.cross_entropy(near, partner, reduction="none").view(2, -1).mean(0)


def classmates(one: Tensor, other: Tensor, same: Tensor, temperature: float) -> Tensor:
    """Minus the mean logarithm (B,) of the chances that a view of a sample finds the other views of `same` (B, B), which sums to 1 over them."""
    near = F.normalize(one.float()) @ F.normalize(other.float()).T / temperature
    return -(same * near.log_softmax(1)).sum(1)


def moved(x: Tensor, reach: int, generator: torch.Generator) -> Tensor:
    """Each image (n, C, H, W) shifted by up to `reach` pixels, zeros moving in."""
    n, _, height, width = x.shape
    draw = lambda size: torch.arange(size)[None] + torch.randint(2 * reach + 1, (n, 1), generator=generator, device=generator.device).cpu()
    rows, columns = draw(height)[:, :, None], draw(width)[:, None, :]
    return F.pad(x, (reach,) * 4)[torch.arange(n)[:, None, None], :, rows, columns].movedim(-1, 1)


def another_view(state, batch, reach: int, stream: str) -> Tensor:
    """Another augmentation of the inputs where the data has one that acts on whole batches; a shift where it has none."""
    train, generator = state.data.train, state.rng(stream, batch.x.device)
    if train.augment is None:
        return moved(batch.x, reach, generator) if reach else batch.x
    return batch.x if isinstance(train, LoadedSplit) else train.augment(train.fetch(batch.i).x, generator)


def mixing(alpha: float, n: int, generator: torch.Generator) -> tuple[float, Tensor]:
    """lam >= 1/2 of Beta(alpha, alpha), and each sample's partner (n,); nothing is mixed at alpha = 0."""
    import numpy as np

    if not alpha:
        return 1.0, torch.arange(n)
    lam = np.random.default_rng(int(torch.randint(2**62, (), generator=generator))).beta(alpha, alpha)
    return max(lam, 1 - lam), torch.randperm(n, generator=generator)
