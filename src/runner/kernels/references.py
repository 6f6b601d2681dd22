"""What references share: second derivatives where the backward is a kernel, functions without gradients, and whether a row may be masked."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .softmax import asks


def gradients(reference: Callable, inputs: tuple[Tensor, ...], grad: Tensor) -> tuple[Tensor | None, ...]:
    """Gradients of `reference(*inputs)` in each input (None where it takes none), with a graph to the inputs and to `grad`."""
    wanted = [x for x in inputs if x.requires_grad]
    found = iter(torch.autograd.grad(reference(*inputs), wanted, grad, create_graph=True))
    return tuple(next(found) if x.requires_grad else None for x in inputs)


def applied(function: type[torch.autograd.Function], x: Tensor, *rest):
    """`function.apply(x, *rest)`; its forward alone, without what `apply` costs, where no gradient in `x` is wanted."""
    learns = not asks(x) or (x.requires_grad and torch.is_grad_enabled())
    return function.apply(x, *rest) if learns else function.forward(x, *rest)


def masked(s: Tensor) -> bool:
    """Whether an entry is -inf; True also where the question would cost more than the answer saves, or a NaN hides the answer."""
    return not asks(s) or (s.numel() > 0 and not s.detach().amin().item() > -math.inf)
