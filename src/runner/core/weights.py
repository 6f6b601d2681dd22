"""A run's own networks and parameters: finding them, and reductions over them."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


def _attributes(thing: object) -> Iterator:
    """The values of an object's attributes, also inside lists, tuples and dicts."""
    todo = list(vars(thing).values()) if hasattr(thing, "__dict__") else []
    while todo:
        value = todo.pop(0)
        if isinstance(value, list | tuple):
            todo += value
        elif isinstance(value, dict):
            todo += value.values()
        else:
            yield value


def modules_of(thing: object) -> list[nn.Module]:
    """The networks that a component owns."""
    return [v for v in _attributes(thing) if isinstance(v, nn.Module)]


def optimizers_of(thing: object) -> list[torch.optim.Optimizer]:
    """The optimizers that a component owns."""
    return list(dict.fromkeys(v for v in _attributes(thing) if isinstance(v, torch.optim.Optimizer)))


def norm(tensors: Iterable[Tensor]) -> Tensor:
    """The Euclidean norm of all entries together, a scalar."""
    return torch.stack(torch._foreach_norm(list(tensors))).norm()


def matrices(model: nn.Module) -> dict[str, nn.Parameter]:
    """The trainable weights that methods prune or mask: linear and convolution kernels, not biases, norms or embeddings."""
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
            own = module.parametrizations.weight.original if parametrize.is_parametrized(module, "weight") else module.weight
            if own.requires_grad:
                found[f"{name}.weight".lstrip(".")] = module.weight
    return found
