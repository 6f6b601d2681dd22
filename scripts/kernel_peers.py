"""What one would write in torch for the operations that `bench_kernels.py` times."""

import torch
from torch import Tensor


def entmax(x: Tensor) -> Tensor:
    """By bisection on the threshold."""
    z = (x.float() - x.float().amax(-1, keepdim=True)) * 0.25
    low, high = torch.full_like(z[..., :1], -1), torch.full_like(z[..., :1], -(x.shape[-1] ** -0.25))
    for _ in range(30):
        tau = (low + high) / 2
        short = (z - tau).clamp_min(0).pow(4).sum(-1, keepdim=True) < 1
        low, high = torch.where(short, low, tau), torch.where(short, tau, high)
    y = (z - tau).clamp_min(0).pow(4)
    return (y / y.sum(-1, keepdim=True)).to(x.dtype)


def sparsemax(x: Tensor) -> Tensor:
    ordered = x.float().sort(-1, descending=True).values
    total = ordered.cumsum(-1) - 1
    rank = torch.arange(1, x.shape[-1] + 1, device=x.device)
    size = (rank * ordered > total).sum(-1, keepdim=True)
    return (x - total.gather(-1, size - 1) / size).clamp_min(0).to(x.dtype)


def entmax15(x: Tensor) -> Tensor:
    z = (x.float() - x.float().amax(-1, keepdim=True)) / 2
    ordered = z.sort(-1, descending=True).values
    rank = torch.arange(1, x.shape[-1] + 1, device=x.device)
    mean = ordered.cumsum(-1) / rank
    spread = rank * (ordered.square().cumsum(-1) / rank - mean.square())
    tau = mean - ((1 - spread) / rank).clamp_min(0).sqrt()
    size = (tau <= ordered).sum(-1, keepdim=True)
    return (z - tau.gather(-1, size - 1)).clamp_min(0).square().to(x.dtype)


def softpick(x: Tensor) -> Tensor:
    top = x.float().amax(-1, keepdim=True)
    e = (x.float() - top).exp() - (-top).exp()
    return (e.relu() / (e.abs().sum(-1, keepdim=True) + 1e-6)).to(x.dtype)


def nm(w: Tensor) -> tuple[Tensor, Tensor]:
    groups = w.view(-1, 4)
    mask = torch.zeros_like(groups, dtype=torch.bool).scatter_(1, groups.abs().topk(2, 1).indices, True).view_as(w)
    return w * mask, mask


def topk_mask(w: Tensor) -> Tensor:
    best = w.abs().view(-1).topk(w.numel() // 10, sorted=False).indices
    return torch.zeros(w.numel(), dtype=torch.bool, device=w.device).index_fill_(0, best, True).view_as(w)


def sgd(w: Tensor, grad: Tensor, buffer: Tensor, mask: Tensor) -> None:
    buffer.mul_(0.9).add_(grad).mul_(mask)
    w.sub_(buffer, alpha=0.1).mul_(mask)


def adamw(w: Tensor, grad: Tensor, m: Tensor, v: Tensor, mask: Tensor) -> None:
    w.mul_(1 - 1e-5)
    m.lerp_(grad, 0.1).mul_(mask)
    v.mul_(0.999).addcmul_(grad, grad, value=0.001).mul_(mask)
    w.addcdiv_(m / 0.5, (v / 0.5).sqrt_().add_(1e-8), value=-1e-3).mul_(mask)


def fused_unmasked_adamw(w: Tensor, grad: Tensor, m: Tensor, v: Tensor, mask: Tensor) -> None:
    options = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "weight_decay": 1e-2, "eps": 1e-8, "amsgrad": False, "maximize": False}
    torch._fused_adamw_([w], [grad], [m], [v], [], [torch.ones((), device=w.device)], **options)


def sparse_topk(x: Tensor) -> Tensor:
    values, best = x.topk(min(8, x.shape[-1]))
    return torch.zeros_like(x).scatter(-1, best, values.softmax(-1))


def scalable(x: Tensor) -> Tensor:
    n = (x > -torch.inf).sum(-1, keepdim=True)
    return (x * (0.43 * n.log())).softmax(-1).to(x.dtype)


def self_adjust(x: Tensor) -> Tensor:
    low, high = x.amin(-1, keepdim=True).clamp_max(0), x.amax(-1, keepdim=True).clamp_min(0)
    return (x - low) / (high - low) * x.softmax(-1)


def stablemax(x: Tensor) -> Tensor:
    s = torch.where(x < 0, 1 / (1 - x), x + 1)
    return s / s.sum(-1, keepdim=True)


def top_n_sigma(x: Tensor) -> Tensor:
    return x.masked_fill(x < x.amax(-1, keepdim=True) - x.std(-1, keepdim=True), -torch.inf).softmax(-1)


def adaptive(x: Tensor) -> Tensor:
    p = x.softmax(-1)
    entropy = -(p * (p + 1e-9).log()).sum(-1, keepdim=True)
    beta = torch.zeros_like(entropy)
    for c in (-0.037, 0.481, -2.3, 4.917, -1.791):
        beta = beta * entropy + c
    return (x * torch.where(entropy > 0.5, beta.clamp_min(1), 1)).softmax(-1)
