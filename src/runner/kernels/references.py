"""What references share: questions about values, gradients beside autograd's, and what a CPU does faster in another way than the plain one."""

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from . import dispatch

# questions


def asks(s: Tensor) -> bool:
    """Whether a question about the values of `s` is cheap: not where it would stall a GPU, break a trace or leave a transform, of this or another tensor."""
    return s.is_cpu and not torch.compiler.is_compiling() and not torch._C._are_functorch_transforms_active()


FEW = 4096  # values that are compared in less time than a column of them is summed


def whole(y: Tensor) -> bool:
    """Whether no row is NaN, of rows that are NaN in every column or in none; NaN alone is not equal to itself."""
    return torch.equal(y, y) if y.numel() <= FEW else not math.isnan(y.detach().select(-1, 0).sum().item())


def finite(values: Tensor, and_not_zero: bool = False) -> bool:
    """Whether all are finite (and none 0). A few numbers Python adds up in less time than torch takes to be called."""
    if values.numel() <= 256:
        numbers = values.flatten().tolist()
        return math.isfinite(sum(numbers)) and not (and_not_zero and 0.0 in numbers)
    values = values.detach()
    return math.isfinite((values.log() if and_not_zero else values).sum().item())


def masked(s: Tensor) -> bool:
    """Whether an entry is -inf; True also where the question would cost more than the answer saves, or a NaN hides the answer."""
    return not asks(s) or (s.numel() > 0 and not s.detach().amin().item() > -math.inf)


# gradients


def gradients(reference: Callable, inputs: tuple[Tensor, ...], grad: Tensor) -> tuple[Tensor | None, ...]:
    """Gradients of `reference(*inputs)` in each input (None where it takes none), with a graph to the inputs and to `grad`."""
    wanted = [x for x in inputs if x.requires_grad]
    found = iter(torch.autograd.grad(reference(*inputs), wanted, grad, create_graph=True))
    return tuple(next(found) if x.requires_grad else None for x in inputs)


def with_gradient(loss: Callable[..., Tensor], *given: Tensor | None) -> tuple[Tensor, Tensor]:
    """`loss(*given)` and the gradient of its sum in the first of them, both detached; by torch.func where a trace or a transform does not take autograd."""
    if torch.compiler.is_compiling() or dispatch.transforming():
        logits, *constants = (None if x is None else x.detach() for x in given)
        value, pull = torch.func.vjp(lambda x: loss(x, *constants), logits)
        return value, pull(torch.ones_like(value))[0]
    with torch.inference_mode(False), torch.enable_grad():
        logits, *constants = (None if x is None else x.clone() if x.is_inference() else x.detach() for x in given)
        value = loss(logits.requires_grad_(), *constants)
        return value.detach(), torch.autograd.grad(value.sum(), logits)[0]


def applied(function: type[torch.autograd.Function], x: Tensor, *rest):
    """`function.apply(x, *rest)`, without what that costs: its forward alone where no gradient in `x` is wanted."""
    if not asks(x):
        return function.apply(x, *rest)
    return _bare(function).apply(x, *rest) if x.requires_grad and torch.is_grad_enabled() else function.forward(x, *rest)


@functools.cache
def _bare(function: type[torch.autograd.Function]) -> type[torch.autograd.Function]:
    """The same with its context made in forward: torch.func does not take it, and torch does not inspect its signature at each call (30 us)."""

    def forward(ctx, *inputs):
        output = function.forward(*inputs)
        function.setup_context(ctx, inputs, output)
        return output

    return type(function.__name__, (torch.autograd.Function,), {"forward": staticmethod(forward), "backward": staticmethod(function.backward)})


# faster on a CPU


REGISTER = {"AVX512": 64, "AVX2": 32}.get(torch.backends.cpu.get_cpu_capability(), 16)  # bytes that the CPU computes with at once
MANY = 1024  # values from which on it pays to turn them


def over_rows(f: Callable, s: Tensor, strided: bool = False) -> Tensor:
    """`f`, torch.softmax or torch.log_softmax, along the last dimension; its columns may be `strided`. Entries of rows that are shorter than
    a register torch takes one at a time, but those of columns side by side: a tenth of the time for ten classes of many samples."""
    if s.shape[-1] * s.element_size() < REGISTER and s.numel() >= MANY and asks(s):
        y = f(s.transpose(0, -1), 0).transpose(0, -1)
        return y if strided else y.contiguous()
    return f(s, -1)


def root(y: Tensor) -> Tensor:
    """The square root of y >= 0, finite in slope. At zeros, of which sparse rows are full, torch's own takes nine times as long."""
    return y * y.clamp_min(torch.finfo(y.dtype).tiny).rsqrt()


BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def keep_(x: Tensor, mask: Tensor) -> Tensor:
    """Set `x`, in place and without gradients, to 0 where the boolean `mask` is False, also where it is NaN.

    By the bits of the numbers, which on a CPU takes a quarter of the time of a product with the mask and less than a tenth of torch.where's.
    """
    bits = BITS.get(x.element_size())
    if bits is None:
        return x.masked_fill_(~mask, 0)
    x.view(bits).bitwise_and_(mask.to(bits).neg_())
    return x


class _Kept(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x, mask):
        bits = BITS[x.element_size()]
        return mask.to(bits).neg_().bitwise_and_(x.view(bits)).view(x.dtype)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx, grad):
        return kept(grad, *ctx.saved_tensors), None


def kept(x: Tensor, mask: Tensor) -> Tensor:
    """`x` where the boolean `mask` of its shape is True, else 0; differentiable."""
    return applied(_Kept, x, mask) if asks(x) and x.element_size() in BITS else x.where(mask, 0)
