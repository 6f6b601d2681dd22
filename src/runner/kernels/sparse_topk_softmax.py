"""Softmax over the k largest entries of a row, exact zeros elsewhere.

y_i = exp(s_i) / sum_{j in top} exp(s_j) for i in the top k, s = x / temperature; Sun et al. 2021, "Sparse-softmax: A Simpler and Faster
Alternative Softmax Transformation"; the same as `topk_softmax(renormalise=True)` scattered over the row, in one pass. Ties
go to the lowest index, so that never more than k entries are kept; a row with fewer entries above -inf keeps those.
"""

import torch
from torch import Tensor

from . import dispatch, layout
from .layout import accumulator, like, moved
from .references import asks
from .softmax import REFERENCES, family_backward, softmax
from .topk_softmax import _best


def sparse_topk_softmax(x: Tensor, k: int, dim: int = -1, *, temperature: float = 1.0) -> Tensor:
    """Shape and dtype of `x` (float32, bfloat16, float16; any float in the reference). Rows over 32,768 columns go through `softmax`.

    Args:
        x: logits of any shape. A row of -inf alone gives zeros.
        k: 1 to the size of `dim`: how many entries are kept.
        dim: the dimension that sums to one.
        temperature: positive; the logits are divided by it.
    """
    x = moved(x, dim, -1)
    if not 1 <= k <= x.shape[-1]:
        raise ValueError(f"k must lie between 1 and the {x.shape[-1]} columns, not {k}")
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, not {temperature}")
    if not dispatch.fused("sparse_topk_softmax", x):
        y = _scattered(x, k, temperature, REFERENCES["softmax"])
    elif x.shape[-1] > layout.WIDEST:
        y = _scattered(x, k, temperature, softmax)
    else:
        y = fused_sparse_topk_softmax(x, k, temperature)
    return moved(y, -1, dim)


def _scattered(x: Tensor, k: int, temperature: float, softmax) -> Tensor:
    s = accumulator(x) if temperature == 1 else accumulator(x) / temperature
    best = _chosen(x.detach(), k)
    return like(torch.zeros_like(s).scatter_(-1, best, softmax(s.gather(-1, best))), x)


def _chosen(x: Tensor, k: int) -> Tensor:
    """Indices of the k largest. Plain `topk` will do where no tie (but one of -inf, whose weights are 0) crosses the border."""
    if asks(x):
        values, best = x.topk(min(k + 1, x.shape[-1]))
        step = values[..., k - 1 :].diff()
        if not step.numel() or step.amax().item() < 0 or not (step >= 0).any():  # NaN between two of -inf
            return best[..., :k]
    return _best(x, k)


@dispatch.kernel("sparse_topk_softmax")
def fused_sparse_topk_softmax(x: Tensor, k: int, temperature: float) -> Tensor:
    from . import sparse_topk_softmax_triton

    return sparse_topk_softmax_triton.forward(x, k, temperature)


@fused_sparse_topk_softmax.register_fake
def _(x, k, temperature):
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)


def _save(ctx, inputs, output):
    ctx.temperature = inputs[2]
    ctx.save_for_backward(output)


def _backward(ctx, grad):
    (y,) = ctx.saved_tensors
    if torch.is_grad_enabled():  # a second derivative was asked for
        p, g = accumulator(y), accumulator(grad)
        return (p * (g - (p * g).sum(-1, keepdim=True)) / ctx.temperature).to(y.dtype), None, None
    return family_backward(y, grad, 1 / ctx.temperature, 0.0, "sparse_topk_softmax"), None, None


fused_sparse_topk_softmax.register_autograd(_backward, setup_context=_save)
dispatch.register("sparse_topk_softmax")
