"""Masks that keep the k entries of largest magnitude, of one tensor or of a list as a whole.

Exactly k are kept. Ties go to the earlier tensor and the lower index in row-major order; NaN counts as larger than any number. Magnitude
pruning: Han et al. 2015, "Learning both Weights and Connections for Efficient Neural Networks"; globally, Frankle & Carbin 2019.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from . import dispatch
from .layout import DOUBLE, magnitude
from .references import asks


def topk_mask(w: Tensor | Sequence[Tensor], k: int | None = None, *, density: float | None = None) -> Tensor | list[Tensor]:
    """Boolean masks of the shapes of `w` that keep its `k` largest magnitudes, or the rounded share `density` of its entries.

    Args:
        w: a tensor, or a list of tensors on one device that compete with each other (their dtypes may differ).
        k: how many are kept in all; below 0 counts as 0, above the number of entries as all.
        density: in [0, 1], instead of `k`.
    """
    tensors = [w.detach()] if isinstance(w, Tensor) else [x.detach() for x in w]
    entries = sum(x.numel() for x in tensors)
    if (k is None) == (density is None):
        raise ValueError("give either k or density")
    if density is not None:
        if not 0 <= density <= 1:
            raise ValueError(f"density must lie in [0, 1], not {density}")
        k = round(density * entries)
    k = min(max(k, 0), entries)
    if 0 < k < entries:
        others = list(filter(None, [dispatch.why_not("topk_mask", x) for x in tensors[1:]]))
        fused = dispatch.fused("topk_mask", tensors[0], others[0] if others else None)
        masks = fused_topk(tensors, k) if fused else _reference(tensors, k)
    else:
        masks = [torch.full_like(x, k > 0, dtype=torch.bool) for x in tensors]
    return masks[0] if isinstance(w, Tensor) else masks


def _reference(tensors: list[Tensor], k: int) -> list[Tensor]:
    double = any(x.dtype in DOUBLE for x in tensors)
    keys = [magnitude(x, double).flatten() for x in tensors]
    keys = torch.cat(keys) if len(keys) > 1 else keys[0]
    least = keys.kthvalue(keys.numel() - k + 1).values
    mask = keys >= least
    if not asks(keys) or int(mask.count_nonzero()) > k:
        above, tied = keys > least, keys == least
        mask = above | (tied & (tied.cumsum(0) <= k - above.sum()))
    return [part.view(x.shape) for part, x in zip(mask.split([x.numel() for x in tensors]), tensors, strict=True)]


@dispatch.kernel("topk_mask")
def fused_topk(tensors: Sequence[Tensor], k: int) -> list[Tensor]:
    from . import topk_mask_triton

    return topk_mask_triton.forward(tensors, k)


@fused_topk.register_fake
def _(tensors, k):
    return [torch.empty(x.shape, dtype=torch.bool, device=x.device) for x in tensors]


dispatch.register("topk_mask")
