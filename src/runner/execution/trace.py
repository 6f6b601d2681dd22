"""A fingerprint of all the numbers of a run at one moment, so that two runs can be told apart at the step at which they part."""

import hashlib

import torch
from torch import Tensor

from runner.core.sharding import is_part
from runner.core.weights import modules_of

CHUNK = 2**22  # numbers summed at a time: 64 MiB of int64
SPREAD, CHAIN = 0x9E3779B97F4A7C15 - 2**64, 0x2545F4914F6CDD1D  # odd numbers: multiplying by them modulo 2^64 loses nothing
BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32}


def fingerprint(loop) -> str:
    """Sixteen hex digits of the parameters and buffers of all the run's networks, and of its last training loss.

    Equal bits give equal digits on every device; any one bit that differs gives others. The device is waited for once. Where the weights are
    sharded, all processes must call this alike.
    """
    networks = dict.fromkeys([loop.state.model, *(m for c in loop.components for m in modules_of(c.object))])
    named = [(k, name, t.detach()) for k, network in enumerate(networks) for name, t in (*network.named_parameters(), *network.named_buffers())]
    whole = hashlib.sha256(repr([(k, name, t.dtype, tuple(t.shape)) for k, name, t in named]).encode())
    whole.update(repr(loop.state.metrics.get("train/loss")).encode())
    if named:
        device = loop.state.device
        whole.update(torch.stack([_total(t.full_tensor() if is_part(t) else t).to(device) for _, _, t in named]).cpu().numpy().tobytes())
    return whole.hexdigest()[:16]


@torch.no_grad()
def _total(tensor: Tensor) -> Tensor:
    """The bits of a tensor as one int64: a sum weighted by position, modulo 2^64. The weights are odd, so no single change is lost."""
    bits = tensor.reshape(-1).view(BITS.get(tensor.element_size(), torch.int64))
    total = bits.new_zeros((), dtype=torch.int64)
    for chunk in bits.split(CHUNK):
        weights = torch.arange(len(chunk), device=bits.device).mul_(SPREAD).bitwise_or_(1)
        total = total * CHAIN + (chunk * weights).sum()
    return total
