"""The state of a component is its attributes: tensors, modules, optimizers, generators, numbers and nests of these. Saved as plain data."""

import torch

from runner.core.sharding import is_part, load_module, load_optimizer, part, whole

_SKIP = object()
_PLAIN = (int, float, bool, str, type(None))


def pack(value, shared=()):
    """Plain data for an attribute; `_SKIP` for what is no state (functions, configuration objects, what the run saves itself)."""
    if any(value is s for s in shared):
        return _SKIP
    if isinstance(value, torch.nn.Module | torch.optim.Optimizer):
        return value.state_dict()
    if isinstance(value, torch.Generator):
        return value.get_state()
    if isinstance(value, (torch.Tensor, *_PLAIN)):
        return value
    if isinstance(value, dict):
        return {k: p for k, v in value.items() if isinstance(k, _PLAIN) and (p := pack(v, shared)) is not _SKIP}
    if isinstance(value, list | tuple):
        items = [pack(v, shared) for v in value]
        return _SKIP if any(i is _SKIP for i in items) else items
    return _SKIP


def unpack(current, saved, device):
    """The value that `saved` stands for, put into `current` where that keeps an identity."""
    if isinstance(current, torch.nn.Module | torch.optim.Optimizer):
        (load_module if isinstance(current, torch.nn.Module) else load_optimizer)(current, saved)
        return current
    if isinstance(current, torch.Generator):
        if saved.shape == current.get_state().shape:  # else it is of another kind of device
            current.set_state(saved.cpu())
        return current
    if isinstance(saved, torch.Tensor):
        return part(saved, current) if is_part(current) else saved.to(current.device if isinstance(current, torch.Tensor) else device)
    if isinstance(saved, dict):
        current = current if isinstance(current, dict) else {}
        return {**current, **{k: unpack(current.get(k), v, device) for k, v in saved.items()}}
    if isinstance(saved, list):
        known = current if isinstance(current, list | tuple) and len(current) == len(saved) else [None] * len(saved)
        items = [unpack(c, s, device) for c, s in zip(known, saved, strict=True)]
        return tuple(items) if isinstance(current, tuple) else items
    return saved


def collect(thing: object, shared=()) -> dict:
    """The state of an object, from its attributes."""
    return pack(vars(thing), shared) if hasattr(thing, "__dict__") else {}


def restore(thing: object, saved: dict, device) -> None:
    for name, value in saved.items():
        setattr(thing, name, unpack(getattr(thing, name, None), value, device))


def save(loop) -> dict:
    """The state of a loop between two steps. Where its weights are sharded, all processes must call this alike."""
    loop.trail.flush()
    state, shared = loop.state, (loop.state.model, loop.state.optimizer)
    saved = {
        "state": state.state_dict(),
        "components": {c.name: collect(c.object, shared) for c in loop.components},
        "optimizer": None if state.optimizer is None else state.optimizer.state_dict(),
        "scale": vars(loop.gradients.scale),
        "loss": (loop.trail.total, loop.trail.count),
        "summary": vars(loop.measures.summary),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(state.device) if state.device.type == "cuda" else None,
    }
    return whole(saved) if state.world.sharded else saved


def load(loop, saved: dict) -> None:
    """Put a saved state into a loop that was assembled from the same config."""
    state = loop.state
    state.load_state_dict(saved["state"])
    for component in loop.components:
        restore(component.object, saved["components"][component.name], state.device)
    if state.phase:
        loop.renew_optimizer()
    if state.optimizer is not None:
        load_optimizer(state.optimizer, saved["optimizer"])
    vars(loop.gradients.scale).update(saved["scale"])
    loop.trail.total, loop.trail.count = saved["loss"]
    vars(loop.measures.summary).update(saved["summary"])
    torch.set_rng_state(saved["torch"].cpu())
    if saved["cuda"] is not None and state.device.type == "cuda":
        torch.cuda.set_rng_state(saved["cuda"].cpu(), state.device)
