"""Partial FC: softmax cross entropy over classes that are spread over processes, of which each keeps a sample.

Each process holds the weights of its classes and the samples of its batch. Samples are gathered; every process takes the classes that
any of them has as its target and uniform others, up to its share `rate` of its classes; the partition function is summed over the
processes by an all-reduce of maxima and one of sums. An et al. 2022, "Killing Two Birds with One Stone: Efficient and Robust Training of Face
Recognition CNNs by Partial FC", sections 3.2 and 3.3; authors' code deepinsight/insightface, recognition/arcface_torch/partial_fc_v2.py.
No logits are held (see `linear_logsumexp`), but few on a CPU. Without torch.distributed it is the loss of one process.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch import distributed as dist

from . import dispatch
from .cross_entropy import torchs
from .layout import accumulator
from .linear_cross_entropy import _piece, linear_logsumexp, linear_margin_loss, margin_loss
from .references import asks
from .sampled_softmax import logit, rows


def partial_fc(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    rate: float = 1.0,
    *,
    scale: float = 64.0,
    arc: float = 0.0,
    cos: float = 0.0,
    normalise: bool = True,
    ignore_index: int = -100,
    reduction: str = "none",
    start: int | None = None,
    group: "dist.ProcessGroup | None" = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Loss of each sample of this process, in float32 (float64 for float64).

    Gradients are those of the sum of what the processes call backward on, in `hidden` and in this process's `weight`. Where other
    parameters are averaged over processes (DDP), divide the gradient of `weight` by their number to have the same mean.

    Args:
        hidden: (n, d) samples of this process, as many on every process.
        weight: (classes here, d). Classes are numbered through the processes, in the order of their ranks.
        target: (n,) class indices over all processes, of an integer type. One that no process has gives NaN.
        rate: in (0, 1]; share of its classes that a process keeps, where its batch's targets are not more. 1 is the whole softmax.
        scale: s; the logits are s cos(angle) of normalised samples and weights.
        arc: margin added to the target's angle (ArcFace; beyond pi the continuation of the authors' code).
        cos: margin taken from the target's cosine (CosFace).
        normalise: off, logits are `scale` times the plain products, without margins.
        ignore_index: a class index whose samples have the loss 0 and no gradient.
        reduction: none, sum, or mean, over this process's samples (those not ignored).
        start: number of this process's first class. Given, the processes do not ask each other for their sizes.
        group: processes; all by default.
        generator: random numbers of this process's sample, on the device of `weight`.
    """
    if reduction not in ("none", "sum", "mean"):
        raise ValueError(f"reduction {reduction!r}: choose none, sum or mean")
    if not 0 < rate <= 1:
        raise ValueError(f"rate must lie in (0, 1], not {rate}")
    if (arc or cos) and not normalise:
        raise ValueError("margins need normalise")
    if hidden.ndim != 2 or target.shape != hidden.shape[:1]:
        raise ValueError(f"targets of shape {tuple(target.shape)} for hidden {tuple(hidden.shape)}")
    many = dist.is_available() and dist.is_initialized() and dist.get_world_size(group) > 1
    target = target.long()
    if not many and rate == 1 and not start and _few(hidden, weight, target, ignore_index) and not dispatch.fused("linear_cross_entropy", hidden):
        cosine = F.linear(*(accumulator(F.normalize(x, dim=-1) if normalise else x) for x in (hidden, weight)))
        own = margin(cosine.gather(1, target[:, None]), arc, cos)
        return torchs(scale * cosine.scatter(1, target[:, None], own), target, None, 0.0, ignore_index, reduction)
    n, valid = len(target), target != ignore_index
    mine = slice(0, n)
    if many:
        start = _start(n, len(weight), hidden.device, group) if start is None else start
        hidden, target = _Gather.apply(hidden, group), _gather(target, group)
        mine = slice(dist.get_rank(group) * n, (dist.get_rank(group) + 1) * n)
    local = target - start if start else target  # outside [0, len(weight)) for targets of other processes
    here = (local >= 0) & (local < len(weight)) & (target != ignore_index)
    own = rows(weight, local.where(here, 0))
    ids = None
    if rate < 1:
        ids = kept_classes(local[here], len(weight), rate, generator)
        weight = weight[ids]
    if normalise:
        hidden, weight, own = (F.normalize(x, dim=-1) for x in (hidden, weight, own))
    z = scale * margin(logit(hidden, own), arc, cos).where(here, 0)
    found = here
    if many:
        others = linear_logsumexp(hidden * scale, weight, exclude=local, ids=ids)
        top = others.detach().clone()
        dist.all_reduce(top, dist.ReduceOp.MAX, group)
        top = top.clamp_min(torch.finfo(top.dtype).min)
        total, z, found = _Sum.apply(torch.stack([(others - top).exp(), z, here.to(z.dtype)]), group)
        others = (top + total.where(total != 0, 1).log()).where(total != 0, -torch.inf)  # NaN stays
        loss = margin_loss(others, z)
    else:
        loss = linear_margin_loss(hidden * scale, weight, z, None, local, ids)
    loss = loss.where(found != 0, torch.nan)[mine].where(valid, 0)
    return loss if reduction == "none" else loss.sum() if reduction == "sum" else loss.sum() / valid.sum()


def _few(hidden: Tensor, weight: Tensor, target: Tensor, ignore_index: int) -> bool:
    """Whether on a CPU the logits may be held, and every sample has one of its own: then that is the faster way."""
    if not asks(hidden) or hidden.dtype != weight.dtype or torch.is_autocast_enabled("cpu") or not 0 < len(hidden) <= _piece(hidden, weight):
        return False
    low, high = (int(x) for x in target.aminmax())
    return low >= 0 and high < len(weight) and ignore_index < 0


def margin(cosine: Tensor, arc: float, cos: float) -> Tensor:
    """cos(angle + arc) - cos; where the angle exceeds pi - arc, cosine - arc sin(arc) - cos, which goes on falling."""
    if arc:
        sine = (1 - cosine.square()).clamp_min(torch.finfo(cosine.dtype).eps ** 2).sqrt()
        moved = cosine * math.cos(arc) - sine * math.sin(arc)
        cosine = torch.where(cosine > math.cos(math.pi - arc), moved, cosine - arc * math.sin(arc))
    return cosine - cos if cos else cosine


def kept_classes(targets: Tensor, classes: int, rate: float, generator: torch.Generator | None = None) -> Tensor:
    """Sorted indices: every target, and uniform others up to int(rate * classes) in all."""
    order = torch.rand(classes, device=targets.device, generator=generator)
    order[targets] = 2
    number = max(int(rate * classes), len(targets.unique()))
    return order.topk(number).indices.sort().values


def _start(samples: int, classes: int, device: torch.device, group) -> int:
    """How many classes the processes before this one have."""
    sizes = _gather(torch.tensor([[samples, classes]], device=device), group).tolist()
    if len({n for n, _ in sizes}) > 1:
        raise ValueError(f"the processes hold different numbers of samples: {[n for n, _ in sizes]}")
    return sum(c for _, c in sizes[: dist.get_rank(group)])


def _gather(x: Tensor, group) -> Tensor:
    pieces = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(dist.get_world_size(group))]
    dist.all_gather(pieces, x.contiguous(), group)
    return torch.cat(pieces)


class _Gather(torch.autograd.Function):
    """The tensors of all processes, one after the other; the gradient is summed over the processes."""

    @staticmethod
    def forward(ctx, x, group):
        ctx.group, ctx.size = group, len(x)
        return _gather(x, group)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        grad = grad.contiguous().clone()
        dist.all_reduce(grad, group=ctx.group)
        first = dist.get_rank(ctx.group) * ctx.size
        return grad[first : first + ctx.size], None


class _Sum(torch.autograd.Function):
    """The sum over the processes, of which each uses its own part; so is the gradient."""

    @staticmethod
    def forward(ctx, x, group):
        ctx.group = group
        x = x.clone()
        dist.all_reduce(x, group=group)
        return x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        grad = grad.contiguous().clone()
        dist.all_reduce(grad, group=ctx.group)
        return grad, None
