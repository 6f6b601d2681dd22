"""Normal distributions of the classes, recovered from wrongly labelled and rare samples."""

import torch
from torch import Tensor


def outlier_factors(x: Tensor, k: int) -> Tensor:
    """Local outlier factors (n,) of the samples x (n, d): how many times denser their k neighbours lie than they do. Breunig et al. 2000."""
    distance = torch.cdist(x, x)
    distance.fill_diagonal_(torch.inf)
    near, index = distance.topk(min(k, len(x) - 1), largest=False)
    density = 1 / torch.maximum(near, near[:, -1][index]).mean(1).clamp_min(1e-10)
    return density[index].mean(1) / density


def inliers(x: Tensor, y: Tensor, classes: int, k: int, limit: float) -> Tensor:
    """Which samples (n,) are no outliers of the class that they are labelled with; all of a class with less than three, or where less than two are left."""
    inside = torch.ones_like(y, dtype=torch.bool)
    for c in range(classes):
        rows = (y == c).nonzero()[:, 0]
        if len(rows) > 2 and (near := outlier_factors(x[rows], k) <= limit).sum() > 1:
            inside[rows] = near
    return inside


def statistics(x: Tensor, y: Tensor, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Means (C, d), covariances (C, d, d) and sizes (C,) of the labelled classes; zero where nothing is labelled so."""
    d = x.shape[1]
    means, covariances, sizes = x.new_zeros(classes, d), x.new_zeros(classes, d, d), y.bincount(minlength=classes).to(x.dtype)
    for c in range(classes):
        if len(rows := x[y == c]):
            means[c] = rows.mean(0)
            centred = rows - means[c]
            covariances[c] = centred.T @ centred / max(1, len(rows) - 1)
    return means, covariances, sizes


def borrowed(means: Tensor, covariances: Tensor, sizes: Tensor, tail: int, q: int, keep: float) -> tuple[Tensor, Tensor]:
    """Of the `tail` smallest classes keep (own) + (1 - keep) (mean of the q nearest other classes, weighted by their sizes); the others as they are.

    Classes that nothing is labelled with neither borrow nor lend; the largest one borrows from none.
    """
    order = sizes.argsort(stable=True)[(sizes == 0).sum() :]
    tail = min(tail, len(order) - 1)
    small, large = order[:tail], order[tail:]
    means, covariances, own = means.clone(), covariances.clone(), (means, covariances)
    for c in small.tolist():
        near = large[torch.cdist(own[0][c : c + 1], own[0][large])[0].topk(min(q, len(large)), largest=False).indices]
        share = sizes[near] / sizes[near].sum()
        means[c] = keep * own[0][c] + (1 - keep) * share @ own[0][near]
        covariances[c] = keep * own[1][c] + (1 - keep) * torch.einsum("q,qij->ij", share, own[1][near])
    return means, covariances


def roots(covariances: Tensor, floor: float) -> Tensor:
    """Lower triangular factors of the covariances (C, d, d) + floor x identity."""
    return torch.linalg.cholesky((covariances + floor * torch.eye(covariances.shape[-1], device=covariances.device)).double()).to(covariances)
