"""The features of a model: what its classifier, the last linear layer, is given."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from runner.core.errors import UserError


def classifier(model: nn.Module, who: str) -> nn.Linear:
    """The last linear layer. Raises UserError in the name of the component that needs it."""
    found = [m for m in model.modules() if isinstance(m, nn.Linear)]
    if not found:
        raise UserError(f"{who} works on what the last linear layer of the model is given; this model has none")
    return found[-1]


@contextmanager
def inputs(layer: nn.Module) -> Iterator[list[Tensor]]:
    """What the layer is given at each call within the block."""
    seen: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    try:
        yield seen
    finally:
        handle.remove()
