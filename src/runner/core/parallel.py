"""Data parallelism: the pieces of each batch are shared out over the processes of one run (`torchrun -m runner ...`).

Every process draws the same batches and random numbers and takes every step alike; only the gradients' pieces are its own, as in gradient
accumulation, and summed over all. What a method does outside of them is done by all alike, so nothing has to know how many they are.
"""

import hashlib
import os

import torch
import torch.distributed as dist
from torch import Tensor, nn

from runner.core import snapshot
from runner.core.errors import UserError
from runner.core.sharding import is_part, whole

SIZE = 2**24  # numbers that are summed in one message


class World:
    """The processes of a run: this one is `rank` of `size`. `sharded`: each holds only its part of the weights."""

    def __init__(self, rank: int = 0, size: int = 1):
        self.rank, self.size, self.sharded = rank, size, False

    @classmethod
    def join(cls, device: torch.device) -> "World":
        """The world that torchrun describes in the environment, else this process alone."""
        if int(os.environ.get("WORLD_SIZE", 1)) == 1:
            return cls()
        if not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        return cls(dist.get_rank(), dist.get_world_size())

    def close(self) -> None:
        if self.size > 1:
            dist.destroy_process_group()

    def pieces(self, batch, parts: int) -> list:
        """This process's pieces of a batch that is cut into `parts` for each."""
        if parts * self.size == 1:
            return [batch]
        pieces = batch.chunk(parts * self.size)
        if self.sharded and len(pieces) < parts * self.size:
            raise UserError(f"a batch of {len(batch.i)} samples is too small: trainer.shard=true needs {parts * self.size} pieces; see trainer.drop_last")
        return pieces[self.rank :: self.size]

    def share(self, state, loss: Tensor, rows: Tensor) -> Tensor:
        """After the backward passes: sum the gradients and the loss, and give all the per-sample rows that each has written.

        Args:
            loss: this process's share of the mean loss, a scalar.
            rows: the samples (b,) of its pieces.
        """
        if self.size == 1:
            return loss
        self._sum_gradients([p for p in state.parameters() if not is_part(p)])
        for name, table in state.per_sample.items():
            state.per_sample[name] = self._rows(table, state.batch.i, rows)
        for buffer in state.model.buffers():
            dist.broadcast(buffer, 0)
        loss = loss.clone()
        dist.all_reduce(loss)
        return loss

    def _sum_gradients(self, parameters: list[nn.Parameter]) -> None:
        if not parameters:
            return
        has = torch.tensor([p.grad is not None for p in parameters], dtype=torch.uint8, device=parameters[0].device)
        dist.all_reduce(has, dist.ReduceOp.MAX)
        some = [p for p, there in zip(parameters, has.tolist(), strict=True) if there]
        for p in some:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        while some:
            bucket, size = [], 0
            while some and (not bucket or (size + some[0].numel() <= SIZE and some[0].dtype == bucket[0].dtype)):
                size += some[0].numel()
                bucket.append(some.pop(0))
            flat = torch.cat([p.grad.flatten() for p in bucket])
            dist.all_reduce(flat)
            for p, part in zip(bucket, flat.split([p.numel() for p in bucket]), strict=True):
                p.grad.copy_(part.view_as(p))

    def _rows(self, table: Tensor, batch: Tensor, own: Tensor) -> Tensor:
        """The table with the batch's rows as those processes have them whose pieces they are in."""
        mine = torch.isin(batch, own).view(-1, *[1] * (table.dim() - 1))
        values = torch.where(mine, table[batch], torch.zeros((), dtype=table.dtype, device=table.device))
        wire = values.to(torch.uint8) if values.dtype == torch.bool else values
        dist.all_reduce(wire)
        table = table.clone()
        table[batch] = wire.to(table.dtype)
        return table

    def tell(self, value=None):
        """The first process's value, for all."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, 0)
        return box[0]

    def decide(self, value):
        """Of processes that shard their weights the first one's word, else one's own."""
        return self.tell(value) if self.sharded else value

    def agree(self, loop) -> None:
        """Raises UserError, in all processes, naming the first component whose state is not the same everywhere."""
        if self.size == 1:
            return
        states = {c.name: snapshot.collect(c.object, (loop.state.model, loop.state.optimizer)) for c in loop.components}
        states["model"] = loop.state.model.state_dict()
        mine = [digest(state) for state in whole(states).values()]
        differs = [ours != theirs for ours, theirs in zip(mine, self.tell(mine), strict=True)]
        flags = torch.tensor(differs, dtype=torch.float32, device=loop.state.device)
        dist.all_reduce(flags)
        wrong = [name for name, flag in zip(states, flags.tolist(), strict=True) if flag]
        if wrong:
            raise UserError(f"{wrong[0]} keeps statistics of its own piece of a batch; it cannot run on {self.size} processes")


def digest(state) -> str:
    """A hash of nested plain data and tensors."""
    whole = hashlib.sha256()

    def add(value):
        if isinstance(value, Tensor):
            whole.update(repr((value.dtype, value.shape)).encode() + value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        elif isinstance(value, dict):
            for key in value:
                whole.update(str(key).encode())
                add(value[key])
        elif isinstance(value, list | tuple):
            for item in value:
                add(item)
        else:
            whole.update(repr(value).encode())

    add(state)
    return whole.hexdigest()
