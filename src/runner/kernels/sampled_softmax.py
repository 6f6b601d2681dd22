"""Softmax cross entropy over the target and a sample of the classes, with the logits of the sample corrected for how often they are drawn.

loss = log(exp z_t + sum_{i: s_i != t} exp(z_{s_i} - log n_i)) - z_t, n_i the expected number of times that class s_i is drawn (m Q(s_i) for m draws
from Q), so that the sum under the logarithm has the expectation of the whole partition function, whatever Q is (Bengio & Senecal 2008;
Jean et al. 2015, section 3; the target is left as it is and drawn targets are left out, as in Blanc & Rendle 2018). The loss itself is
below that of all classes in expectation, by Jensen's inequality, and approaches it with m.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .cross_entropy import ignores
from .layout import accumulator
from .linear_cross_entropy import _matched, linear_margin_loss
from .references import applied, asks


def sampled_softmax(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    samples: Tensor,
    expected: Tensor,
    bias: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "none",
) -> Tensor:
    """Loss of each row of `hidden` in float32 (float64 for float64). No logits are held (see `linear_logsumexp`).

    Args:
        hidden: (..., d) of float32, bfloat16 or float16 (any float in the reference).
        weight: (C, d).
        target: class indices (...) of an integer type.
        samples: (m,) classes, which may repeat, drawn for all rows.
        expected: (m,) expected number of times that each of `samples` is drawn, positive; `draw_classes` gives both.
        bias: (C,).
        ignore_index: a class index whose samples have the loss 0 and no gradient.
        reduction: none, sum, or mean (over the samples that are not ignored).
    """
    if reduction not in ("none", "sum", "mean"):
        raise ValueError(f"reduction {reduction!r}: choose none, sum or mean")
    if target.shape != hidden.shape[:-1] or samples.ndim != 1 or expected.shape != samples.shape:
        given = f"samples {tuple(samples.shape)} and expected {tuple(expected.shape)}"
        raise ValueError(f"targets of shape {tuple(target.shape)}, {given} for hidden {tuple(hidden.shape)}")
    hidden, weight, bias = _matched(hidden, weight, bias)
    target, samples = target.long(), samples.long()
    valid = target != ignore_index if not asks(target) or ignores(target, ignore_index) else None
    own = target if valid is None else target.where(valid, 0)
    offset = -accumulator(expected).log()
    if bias is not None:
        offset = offset + accumulator(bias)[samples]
    z = logit(hidden, rows(weight, own), None if bias is None else accumulator(bias)[own])
    loss = linear_margin_loss(hidden, rows(weight, samples), z, offset, target, samples)
    loss = loss if valid is None else loss.where(valid, 0)
    if reduction == "mean":
        return loss.mean() if valid is None else loss.sum() / valid.sum()
    return loss.sum() if reduction == "sum" else loss


class _Rows(torch.autograd.Function):
    """`weight[index]`, with the gradients of a row that is there many times added up in float32."""

    generate_vmap_rule = True

    @staticmethod
    def forward(weight, index):
        return weight[index]

    @staticmethod
    def setup_context(ctx, inputs, output):
        weight, index = inputs
        ctx.shape, ctx.dtype = weight.shape, weight.dtype
        ctx.save_for_backward(index)

    @staticmethod
    def backward(ctx, grad):
        (index,) = ctx.saved_tensors
        total = torch.zeros(ctx.shape, dtype=torch.float32, device=grad.device)
        return total.index_put((index,), grad.float(), accumulate=True).to(ctx.dtype), None


def rows(weight: Tensor, index: Tensor) -> Tensor:
    """`weight[index]`. Sums of many numbers in half precision stand still once they are some hundred times as large as what is added."""
    return F.embedding(index, weight) if weight.dtype in (torch.float32, torch.float64) else applied(_Rows, weight, index)


def logit(hidden: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The logit of one class for each row: `weight` and `bias` are those of its class."""
    z = (accumulator(hidden) * accumulator(weight)).sum(-1)
    return z if bias is None else z + accumulator(bias)


def draw_classes(
    classes: int, number: int, law: str | Tensor = "uniform", *, device: torch.device | str = "cpu", generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """`number` independent draws of classes and their expected counts, for `sampled_softmax`.

    Args:
        law: uniform, log_uniform (Zipf's, for classes sorted by descending frequency), or the probabilities of the classes.
        device: of the result; `generator` must be on it.
    """
    if isinstance(law, Tensor):
        samples = torch.multinomial(law, number, replacement=True, generator=generator)
        return samples, number * law[samples] / law.sum()
    if law == "uniform":
        samples = torch.randint(classes, (number,), device=device, generator=generator)
        return samples, torch.full((number,), number / classes, device=device)
    if law != "log_uniform":
        raise ValueError(f"law {law!r}: choose uniform, log_uniform, or a tensor of probabilities")
    u = torch.rand(number, device=device, generator=generator, dtype=torch.float64)
    samples = ((u * math.log(classes + 1)).exp() - 1).long().clamp_max(classes - 1)
    return samples, (number / math.log(classes + 1) * torch.log1p(1 / (samples + 1))).float()
