"""A linear layer whose weight is a product of two thin matrices plus a sparse matrix with fixed places: W = scale B A + S, y = x W^T + bias.

Han et al. 2024, "SLTrain: a sparse plus low-rank approach for parameter and memory efficient pretraining", sections 3.2 and 3.3; authors' code
andyjm3/SLTrain (splora/splora_linear.py, sparse-lora/sparse_linear.cpp), where scale = alpha / r and the places are uniformly random. No dense
matrix is kept between forward and backward: the weight is made again, and the kernels never form its gradient.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from . import dispatch
from .masked_linear import check, flat, matched
from .references import asks, gradients


def sparse_low_rank_linear(x: Tensor, b: Tensor, a: Tensor, values: Tensor, indices: Tensor, bias: Tensor | None = None, *, scale: float = 1.0) -> Tensor:
    """(..., out) of the dtype of `x`; sums in float32. Second derivatives are right.

    Args:
        x: (..., in) of float32, bfloat16 or float16 (any float in the reference).
        b, a: (out, r) and (r, in), of the dtype of `x` outside autocast.
        values: (n,), the entries of S.
        indices: (n,) int64, their places row * in + column, ascending (on a GPU that is not checked); values at equal places add up.
        bias: (out,).
        scale: factor of B A.
    """
    x, a, b, values, bias = matched(x, a, b, values, bias)
    if b.ndim != 2 or b.shape[1] != len(a) or values.ndim != 1 or values.shape != indices.shape:
        raise ValueError(f"shapes do not fit: b {tuple(b.shape)}, a {tuple(a.shape)}, values {tuple(values.shape)}, indices {tuple(indices.shape)}")
    check(b, bias)
    most = len(b) * a.shape[1]
    if asks(indices) and len(indices) and ((indices[1:] < indices[:-1]).any() or indices[0] < 0 or indices[-1] >= most):
        raise ValueError(f"indices must ascend from 0 to below {most}")
    if not dispatch.fused("sparse_low_rank", x):
        if dispatch.transforming():  # which takes no function that saves by itself; in place, values alone could not be batched
            return F.linear(x, (scale * (b @ a)).flatten().scatter_add(0, indices, values).view(len(b), a.shape[1]), bias)
        return _Recomputed.apply(x, b, a, values, bias, indices, scale)
    y = fused_sparse_low_rank(flat(x), b, a, values, bias, indices, scale)
    return y.view(*x.shape[:-1], len(b))


def _weight(b: Tensor, a: Tensor, values: Tensor, indices: Tensor, scale: float) -> Tensor:
    dense = b.new_empty(len(b), a.shape[1]).addmm_(b, a, beta=0, alpha=scale)
    return dense.view(-1).scatter_add_(0, indices, values).view(dense.shape)


def _reference(x: Tensor, b: Tensor, a: Tensor, values: Tensor, bias: Tensor | None, indices: Tensor, scale: float) -> Tensor:
    return F.linear(x, _weight(b, a, values, indices, scale), bias)


class _Recomputed(torch.autograd.Function):
    """The reference, whose backward makes the weight again; it is differentiable itself."""

    @staticmethod
    def forward(ctx, x, b, a, values, bias, indices, scale):
        ctx.scale = scale
        ctx.save_for_backward(x, b, a, values, indices)
        return _reference(x, b, a, values, bias, indices, scale)

    @staticmethod
    def backward(ctx, grad):
        x, b, a, values, indices = ctx.saved_tensors
        dx = db = da = dvalues = dbias = None
        rows, up = flat(x), flat(grad)
        learns = ctx.needs_input_grad
        if learns[0]:
            dx = grad @ _weight(b, a, values, indices, ctx.scale)
        if learns[3]:
            dense = up.t() @ rows
            dvalues = dense.view(-1).gather(0, indices)
        if learns[3] and len(rows) * (len(b) + a.shape[1]) > len(b) * a.shape[1]:  # the shorter of two ways to the same
            db = (dense @ a.t()).mul_(ctx.scale) if learns[1] else None
            da = (b.t() @ dense).mul_(ctx.scale) if learns[2] else None
        else:
            db = (up.t() @ (rows @ a.t())).mul_(ctx.scale) if learns[1] else None
            da = ((up @ b).t() @ rows).mul_(ctx.scale) if learns[2] else None
        if learns[4]:
            dbias = up.sum(0)
        return dx, db, da, dvalues, dbias, None, None


@dispatch.kernel("sparse_low_rank")
def fused_sparse_low_rank(x: Tensor, b: Tensor, a: Tensor, values: Tensor, bias: Tensor | None, indices: Tensor, scale: float) -> Tensor:
    from . import sparse_low_rank_triton

    return F.linear(x, sparse_low_rank_triton.weight(b, a, values, indices, scale), bias)


@dispatch.kernel("sparse_low_rank_backward")
def sparse_low_rank_backward(
    grad: Tensor, x: Tensor, b: Tensor, a: Tensor, values: Tensor, indices: Tensor, scale: float, learns: list[bool]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients in x, b, a and values; empty where not asked for."""
    from . import sparse_low_rank_triton

    none = grad.new_empty(0)
    dx = grad @ sparse_low_rank_triton.weight(b, a, values, indices, scale) if learns[0] else none
    db = (grad.t() @ (x @ a.t())).mul_(scale) if learns[1] else none.clone()
    da = ((grad @ b).t() @ x).mul_(scale) if learns[2] else none.clone()
    return dx, db, da, sparse_low_rank_triton.at_places(grad, x, indices) if learns[3] else none.clone()


@fused_sparse_low_rank.register_fake
def _(x, b, a, values, bias, indices, scale):
    return torch.empty(len(x), len(b), dtype=x.dtype, device=x.device)


@sparse_low_rank_backward.register_fake
def _(grad, x, b, a, values, indices, scale, learns):
    return tuple(grad.new_empty(t.shape if learn else (0,)) for t, learn in zip((x, b, a, values), learns, strict=True))


def _save(ctx, inputs, output):
    *tensors, ctx.scale = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx, grad):
    *inputs, indices = ctx.saved_tensors
    if torch.is_grad_enabled():  # a second derivative was asked for
        x, b, a, values, bias = inputs
        given = (x, b, a, values) if bias is None else (x, b, a, values, bias)
        made = gradients(lambda *t: _reference(*t[:4], t[4] if len(t) > 4 else None, indices, ctx.scale), given, grad)
        return *made, *[None] * (7 - len(made))
    learns = list(ctx.needs_input_grad[:4])
    made = sparse_low_rank_backward(grad, *inputs[:4], indices, ctx.scale, learns) if any(learns) else [None] * 4
    made = [d if learn else None for d, learn in zip(made, learns, strict=True)]
    return *made, grad.sum(0) if ctx.needs_input_grad[4] else None, None, None


fused_sparse_low_rank.register_autograd(_backward, setup_context=_save)
dispatch.register("sparse_low_rank")
