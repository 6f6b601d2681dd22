"""Sharding: each process of a run holds its part of every weight, of its gradient and of the optimizer's state (FSDP2, torch's `fully_shard`).

A network's blocks, the members of its Sequentials and ModuleLists, are gathered one after another as they are needed. What leaves the processes,
a checkpoint or a fingerprint, is whole, so that a run may go on with any number of them.
"""

from torch import Tensor, nn

from runner.core.errors import UserError
from runner.core.weights import modules_of


def shard(loop) -> None:
    """Share the weights of the model out over the processes, before any component sees them.

    Raises:
        UserError: there is one process, or a component needs whole weights: it masks or copies them, or has a network of its own.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    state = loop.state
    if state.world.size == 1:
        raise UserError("trainer.shard=true is for several processes: torchrun --nproc-per-node 8 -m runner ...")
    for component in loop.components:
        if "mask" in component.card.owns or modules_of(component.object):
            raise UserError(f"{component.name} needs whole weights; it cannot run with trainer.shard=true")
    mesh = init_device_mesh(state.device.type, (state.world.size,))
    blocks = [m for parent in state.model.modules() if isinstance(parent, nn.Sequential | nn.ModuleList) for m in parent]
    blocks = dict.fromkeys([state.model, *(m for m in blocks if not isinstance(m, nn.ModuleList) and next(m.parameters(), None) is not None)])
    for block in reversed(blocks):  # the inner ones first
        fully_shard(block, mesh=mesh)
        block.set_gradient_divide_factor(1.0)  # the pieces of a batch are weighted already: their gradients are summed
        block.set_force_sum_reduction_for_comms(True)  # and plainly so: gloo knows no other reduction
    state.model.__deepcopy__ = _no_copy
    state.world.sharded = True


def _no_copy(memo):
    raise UserError("a component of this run copies the model; it cannot run with trainer.shard=true")


def is_part(value) -> bool:
    return hasattr(value, "full_tensor")


def whole(value):
    """Nested plain data with every part of a tensor replaced by the whole one, on the CPU. All processes must call it alike."""
    if is_part(value):
        return value.full_tensor().cpu()
    if isinstance(value, dict):
        return {k: whole(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(whole(v) for v in value)
    return value


def part(value: Tensor, like: Tensor) -> Tensor:
    """This process's part of a whole tensor, cut as `like` is; the tensor itself where that one is whole."""
    if not is_part(like):
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)


def load_module(module: nn.Module, saved: dict[str, Tensor]) -> None:
    mine = module.state_dict()
    module.load_state_dict({name: part(value, mine[name]) if name in mine else value for name, value in saved.items()})


def load_optimizer(optimizer, saved: dict) -> None:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    cut = lambda value, like: part(value, like) if isinstance(value, Tensor) and value.shape == like.shape else value
    mine = {k: {name: cut(value, parameters[k]) for name, value in values.items()} for k, values in saved["state"].items()}
    optimizer.load_state_dict({**saved, "state": mine})
