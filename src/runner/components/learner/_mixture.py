"""A mixture of two normal distributions of numbers, as of the losses of right and wrong labels."""

import torch
from torch import Tensor


def halves(values: Tensor) -> Tensor:
    """Which values (n,) are in the upper of the two groups with the smallest sum of squared distances to their means: 2-means, exactly."""
    ordered = values.sort()[0]
    n, below = torch.arange(1, len(values), device=values.device), ordered.cumsum(0)[:-1]
    above = ordered.sum() - below
    cut = (below**2 / n + above**2 / (len(values) - n)).argmax()
    return values > ordered[cut]


def lower_component(values: Tensor, steps: int = 10, tolerance: float = 1e-2, floor: float = 5e-4) -> Tensor:
    """The probability (n,) of each value (n,) to be of the component with the smaller mean, after expectation maximisation from `halves`.

    Args:
        values: any numbers.
        steps: at most.
        tolerance: smallest change of the mean log-likelihood to go on.
        floor: added to the variances.
    """
    x = values.double()
    if len(x) < 2 or x.min() == x.max():
        return torch.ones_like(values)
    upper = halves(x).double()
    r, last, done = torch.stack([1 - upper, upper]), -torch.inf, False  # responsibilities (2, n)
    for _ in range(steps + 1):
        total = r.sum(1, keepdim=True) + 1e-15
        mean = (r * x).sum(1, keepdim=True) / total
        variance = (r * (x - mean) ** 2).sum(1, keepdim=True) / total + floor
        joint = (total / len(x)).log() - 0.5 * ((x - mean) ** 2 / variance + (2 * torch.pi * variance).log())
        likelihood = joint.logsumexp(0)
        r = (joint - likelihood).exp()
        if done:
            break
        now = likelihood.mean()
        done, last = bool((now - last).abs() < tolerance), now
    return r[mean[:, 0].argmin()].to(values.dtype)
