"""N:M sparsity: of every M consecutive weights along a dimension the N of largest magnitude are kept.

Ties go to the lowest index; NaN counts as larger than any number. Mishra et al. 2021, "Accelerating Sparse Deep Neural Networks"; the
straight-through gradient that also pulls pruned weights to zero is SR-STE (Zhou et al. 2021, "Learning N:M Fine-grained Structured Sparse
Neural Networks From Scratch", section 3.2).
"""

import torch
from torch import Tensor

from . import dispatch
from .layout import magnitude
from .references import applied, kept


def nm_mask(w: Tensor, n: int, m: int, dim: int = -1) -> Tensor:
    """Boolean mask of the shape of `w` with `n` kept of every `m` along `dim`, whose size `m` must divide; 1 <= n <= m <= 32."""
    return _nm(w.detach(), n, m, dim, prune=False)[1]


def nm_prune(w: Tensor, n: int, m: int, dim: int = -1) -> tuple[Tensor, Tensor]:
    """`w` with 0 outside its N:M mask, and the mask, from one pass. Pruned weights get no gradient. Arguments as `nm_mask`."""
    return _nm(w, n, m, dim, prune=True)


def sr_ste(w: Tensor, n: int, m: int, dim: int = -1, decay: float = 2e-4) -> Tensor:
    """The pruned weights; all weights get the whole gradient, and pruned ones decay * w beside it. Arguments as `nm_mask`.

    This is not the gradient of a function. Without decay a second derivative is straight-through as well: the Hessian H in the weights that
    the layer computes with, so that mask H mask is that of f(w * mask). With decay there is none.
    """
    if dispatch.fused("nm_mask", w, _fit(w, n, m, dim)):
        return fused_nm(w, n, m, dim % w.ndim, True, decay)[0]
    return applied(_SrSte, w, _reference(w.detach(), n, m, dim), decay)


def _fit(w: Tensor, n: int, m: int, dim: int) -> None:
    if not (1 <= n <= m <= 32 and n % 1 == m % 1 == 0):
        raise ValueError(f"{n}:{m} sparsity needs whole numbers, 1 <= n <= m <= 32")
    if w.shape[dim] % m:
        raise ValueError(f"{n}:{m} sparsity: {m} does not divide the {w.shape[dim]} weights along dimension {dim}")


def _nm(w: Tensor, n: int, m: int, dim: int, prune: bool) -> tuple[Tensor, Tensor]:
    if dispatch.fused("nm_mask", w, _fit(w, n, m, dim)):
        return fused_nm(w, n, m, dim % w.ndim, prune, None)
    mask = _reference(w.detach(), n, m, dim)
    return kept(w, mask) if prune else w, mask


def _reference(w: Tensor, n: int, m: int, dim: int) -> Tensor:
    key = magnitude(w).movedim(dim, -1).unflatten(-1, (w.shape[dim] // m, m)).movedim(-1, 0).contiguous()  # groups side by side
    lost = torch.zeros_like(key, dtype=torch.int8)  # comparisons, less those with later ones that were won
    for j in range(m - 1):
        won = (key[j] >= key[j + 1 :]).view(torch.int8)
        lost[j + 1 :] += won
        lost[j] -= won.sum(0, dtype=torch.int8)
    most = torch.arange(n - m, n, dtype=torch.int8, device=w.device).view(m, *[1] * (key.ndim - 1))
    return (lost <= most).movedim(0, -1).flatten(-2).movedim(-1, dim)


class _SrSte(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(w, mask, decay):
        return kept(w, mask)

    @staticmethod
    def setup_context(ctx, inputs, output):
        w, mask, ctx.decay = inputs
        ctx.save_for_backward(w, mask)

    @staticmethod
    def backward(ctx, grad):
        w, mask = ctx.saved_tensors
        return _straight(grad, w, mask, ctx.decay) if torch.is_grad_enabled() else _pulled(grad, w, mask, ctx.decay), None, None


def _pulled(grad: Tensor, w: Tensor, mask: Tensor, decay: float) -> Tensor:
    return grad.add(kept(w, ~mask), alpha=decay)


def _straight(grad: Tensor, w: Tensor, mask: Tensor, decay: float) -> Tensor:
    """The gradient where a second derivative may follow. With decay that is refused: its pass would add the decay once more."""
    return _Once.apply(grad, w, mask, decay) if decay else grad


class _Once(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(grad, w, mask, decay):
        return _pulled(grad, w, mask, decay)

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, grad):
        raise RuntimeError("sr_ste with decay cannot be differentiated twice")


@dispatch.kernel("nm_mask")
def fused_nm(w: Tensor, n: int, m: int, dim: int, prune: bool, decay: float | None) -> tuple[Tensor, Tensor]:
    """Pruned weights (empty unless asked for) and mask. With a `decay` the gradient is SR-STE's."""
    from . import nm_mask_triton

    return nm_mask_triton.forward(w, n, m, dim, prune)


@dispatch.kernel("sr_ste_backward")
def sr_ste_backward(grad: Tensor, w: Tensor, mask: Tensor, decay: float) -> Tensor:
    from . import nm_mask_triton

    return nm_mask_triton.backward(grad, w, mask, decay)


@fused_nm.register_fake
def _(w, n, m, dim, prune, decay):
    pruned = torch.empty(w.shape if prune else (0,), dtype=w.dtype, device=w.device)
    return pruned, torch.empty(w.shape, dtype=torch.bool, device=w.device)


@sr_ste_backward.register_fake
def _(grad, w, mask, decay):
    return torch.empty(w.shape, dtype=w.dtype, device=w.device)


def _save(ctx, inputs, output):
    w, *_, ctx.prune, ctx.decay = inputs
    ctx.save_for_backward(output[1], *([] if ctx.decay is None else [w]))


def _backward(ctx, grad, _):
    mask, *w = ctx.saved_tensors
    if not ctx.prune:
        grad = None
    elif not w:
        grad = grad.where(mask, 0)
    elif torch.is_grad_enabled():
        grad = _straight(grad, w[0], mask, ctx.decay)
    else:
        grad = sr_ste_backward(grad, w[0], mask, ctx.decay)
    return grad, None, None, None, None, None


fused_nm.register_autograd(_backward, setup_context=_save)
dispatch.register("nm_mask")
