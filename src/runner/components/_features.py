"""The features of a model: what its classifier, the last linear layer, is given."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from torch import Tensor, compiler, nn

from runner.core.errors import UserError


def classifier(model: nn.Module, who: str) -> nn.Linear:
    """The last linear layer. Raises UserError in the name of the component that needs it."""
    found = [m for m in model.modules() if isinstance(m, nn.Linear)]
    if not found:
        raise UserError(f"{who} works on what the last linear layer of the model is given; this model has none")
    return found[-1]


@contextmanager
def inputs(layer: nn.Module) -> Iterator[list[Tensor]]:
    """What the layer is given at each call within the block. Nothing is compiled there: compiled code does not see a hook that comes later."""
    seen: list[Tensor] = []
    eager = compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()
    with eager, layer.register_forward_pre_hook(lambda module, given: seen.append(given[0])):
        yield seen
