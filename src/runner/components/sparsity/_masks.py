"""Masks: how many weights each layer keeps, which ones, and what follows when connections are dropped and grown. All counts are exact."""

import math

import torch
from torch import Tensor

from runner.core.weights import matrices


def densities(shapes: dict[str, tuple[int, ...]], sparsity: float, distribution: str) -> dict[str, float]:
    """The share of weights that each layer keeps.

    Args:
        shapes: layer -> shape (out, in, kernel...).
        sparsity: share of all weights that is left out.
        distribution: `uniform`; `erdos_renyi`, in proportion to (in + out) / (in * out); `erk`, the same with the kernel's sides among both the
            summands and the factors. Layers that would exceed 1 stay dense and the others share the rest.
    """
    size = {name: math.prod(shape) for name, shape in shapes.items()}
    if distribution == "uniform":
        return dict.fromkeys(shapes, 1 - sparsity)
    sides = {name: shape if distribution == "erk" else shape[:2] for name, shape in shapes.items()}
    raw = {name: sum(side) / math.prod(side) for name, side in sides.items()}
    left, full = set(shapes), {}
    while left:
        budget = (1 - sparsity) * sum(size.values()) - sum(size[name] for name in full)
        scale = budget / sum(raw[name] * size[name] for name in left)
        largest = max(left, key=lambda name: raw[name])
        if scale * raw[largest] <= 1:
            break
        for name in [n for n in left if raw[n] == raw[largest]]:
            full[name] = 1.0
            left.discard(name)
    return {name: full.get(name) or scale * raw[name] for name in shapes}


def counts(shapes: dict[str, tuple[int, ...]], sparsity: float, distribution: str) -> dict[str, int]:
    """The number of weights that each layer keeps; together exactly round((1 - sparsity) * all), by largest remainders."""
    size = {name: math.prod(shape) for name, shape in shapes.items()}
    wish = {name: share * size[name] for name, share in densities(shapes, sparsity, distribution).items()}
    found = {name: math.floor(wish[name] + 1e-9) for name in shapes}
    rest = round((1 - sparsity) * sum(size.values())) - sum(found.values())
    room = sorted((name for name in shapes if found[name] < size[name]), key=lambda name: found[name] - wish[name])
    for name in room[:rest]:
        found[name] += 1
    return found


def due(state, taken: int, every: str) -> bool:
    """Whether a period ends after so many steps."""
    return taken % max(1, state.clock.steps(every)) == 0


def shapes_of(model) -> dict[str, tuple[int, ...]]:
    return {name: tuple(weight.shape) for name, weight in matrices(model).items()}


def draw(state, sparsity: float, distribution: str, generator: torch.Generator) -> None:
    """Random masks for all layers of the model, put to work at once."""
    for name, k in counts(shapes_of(state.model), sparsity, distribution).items():
        weight = state.model.get_parameter(name)
        mask = torch.zeros(weight.numel())
        mask[torch.randperm(weight.numel(), generator=generator)[:k]] = 1
        state.masks[name] = mask.view(weight.shape).to(weight)
    state.enforce_masks()


@torch.no_grad()
def rewire(state, fraction: float, scores: dict[str, Tensor]) -> None:
    """Drop a fraction of each layer's connections by magnitude and grow as many by score; new ones start at zero, without momentum."""
    from runner.kernels import drop_grow_

    weights, masks = [state.model.get_parameter(name) for name in scores], [state.masks[name].clone() for name in scores]
    for weight, new in zip(weights, drop_grow_(weights, masks, list(scores.values()), fraction), strict=True):
        for optimizer in state.optimizers:
            for value in optimizer.state.get(weight, {}).values():
                if isinstance(value, Tensor) and value.shape == weight.shape:
                    value.masked_fill_(new, 0)
    state.masks.update(zip(scores, masks, strict=True))


class Masked:
    """A method with masks in `state.masks`: masked weights get no gradient, so that neither momentum, clipping nor a perturbation knows of them."""

    @torch.no_grad()
    def grads(self, state):
        named = dict(state.model.named_parameters()) if state.masks else {}
        pairs = [(named[name].grad, mask) for name, mask in state.masks.items() if named[name].grad is not None]
        if pairs:
            torch._foreach_mul_(*map(list, zip(*pairs, strict=True)))
