"""One update of sparse connections: drop those of smallest weight and grow as many where a score is largest, at a fixed number.

RigL grows by the dense gradient: Evci et al. 2020, "Rigging the Lottery: Making All Tickets Winners", algorithm 1; authors' code
google-research/rigl, sparse_optimizers_base.py. SET grows at random, which are scores that are random: Mocanu et al. 2018, algorithm 1. What was
just dropped may grow again, and then keeps its weight. Of equal magnitudes the earlier tensor and the lower index in row-major order stays or
comes; NaN counts as larger than any number.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from . import dispatch
from .layout import DOUBLE, magnitude
from .references import keep_


@torch.no_grad()
def drop_grow_(
    weights: Tensor | Sequence[Tensor],
    masks: Tensor | Sequence[Tensor],
    scores: Tensor | Sequence[Tensor],
    fraction: float,
    *,
    together: bool = False,
) -> Tensor | list[Tensor]:
    """Change masks and weights in place; boolean tensors tell which connections are new. Without a transfer to the host on a GPU.

    Args:
        weights: of a layer, or of all layers on one device. Those outside the changed mask become 0, and so do those that are new.
        masks: of the same shapes, any dtype, 0 or 1. Each keeps its number of ones unless `together`.
        scores: of the same shapes; of two the larger in magnitude grows.
        fraction: in [0, 1]; int(fraction * ones) connections are dropped, and as many grown.
        together: connections of all layers compete with each other; else each layer is a case of its own.
    """
    if isinstance(weights, Tensor):
        return drop_grow_([weights], [masks], [scores], fraction)[0]
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction must lie in [0, 1], not {fraction}")
    for w, m, s in zip(weights, masks, scores, strict=True):
        if not w.shape == m.shape == s.shape:
            raise ValueError(f"shapes differ: weight {tuple(w.shape)}, mask {tuple(m.shape)}, score {tuple(s.shape)}")
    if not weights:
        return []
    first, *others = [*weights, *scores]
    reasons = filter(None, (dispatch.why_not("drop_grow", x) for x in others))
    if not dispatch.fused("drop_grow", first, next(reasons, None)):
        return _reference_(list(weights), list(masks), list(scores), fraction, together)
    new = [torch.empty(w.shape, dtype=torch.bool, device=w.device) for w in weights]
    fused_drop_grow_(list(weights), list(masks), new, list(scores), fraction, together)
    return new


def _reference_(weights: list[Tensor], masks: list[Tensor], scores: list[Tensor], fraction: float, together: bool) -> list[Tensor]:
    if not together:
        return [_update_([w], [m], [s], fraction)[0] for w, m, s in zip(weights, masks, scores, strict=True)]
    return _update_(weights, masks, scores, fraction)


def _update_(weights: list[Tensor], masks: list[Tensor], scores: list[Tensor], fraction: float) -> list[Tensor]:
    old = [m.bool() for m in masks]
    active = _joined(old)
    ones = active.sum()
    if torch.compiler.is_compiling():  # a number that is taken out of a tensor would break the graph
        k = (fraction * ones.double()).long()
    else:
        ones = int(ones)
        k = int(fraction * ones)
    kept = _largest(_keys(weights), active, ones - k)
    mask = _largest(_keys(scores), ~kept, k).logical_or_(kept)
    new = []
    for w, m, o, part in zip(weights, masks, old, mask.split([w.numel() for w in weights]), strict=True):
        stays = part.view(w.shape) & o
        keep_(w, stays)
        new.append(part.view(w.shape) ^ stays)
        m.copy_(part.view(w.shape))
    return new


def _joined(tensors: list[Tensor]) -> Tensor:
    return torch.cat([x.flatten() for x in tensors]) if len(tensors) > 1 else tensors[0].flatten()


def _keys(tensors: list[Tensor]) -> Tensor:
    double = any(x.dtype in DOUBLE for x in tensors)
    return _joined([magnitude(x, double) for x in tensors])


def _largest(key: Tensor, among: Tensor, count: int | Tensor) -> Tensor:
    """Mask of the `count` largest keys `among` some; the first of those that are equal."""
    if not key.numel():
        return among
    key = key | among.to(key.dtype).sub_(1)  # -1 for the others
    if isinstance(count, int):
        least = key.kthvalue(key.numel() - max(count, 1) + 1).values
    else:
        least = key.sort(descending=True).values.index_select(0, (count - 1).clamp_min(0).view(1))
    mask = key >= least
    if not isinstance(count, int) or int(mask.sum()) > count:
        above, tied = key > least, key == least
        mask = above | (tied & (tied.cumsum(0) <= count - above.sum()))
    return mask


@dispatch.kernel("drop_grow_", mutates=("weights", "masks", "new"))
def fused_drop_grow_(
    weights: Sequence[Tensor], masks: Sequence[Tensor], new: Sequence[Tensor], scores: Sequence[Tensor], fraction: float, together: bool
) -> None:
    from . import drop_grow_triton

    drop_grow_triton.update(weights, masks, new, scores, fraction, together)


@fused_drop_grow_.register_fake
def _(weights, masks, new, scores, fraction, together):
    return None


dispatch.register("drop_grow")
