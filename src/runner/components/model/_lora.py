"""Low-rank adaptation (LoRA): a network stands still but for a correction of low rank to each of its linear layers."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from runner.core.sharding import whole


class Correction(nn.Module):
    """x (..., in) to alpha / rank B A x (..., out): A drawn as the weights of a linear layer are, B zero."""

    def __init__(self, into: int, out: int, rank: int, alpha: float):
        super().__init__()
        self.down, self.up, self.scale = nn.Linear(into, rank, bias=False), nn.Linear(rank, out, bias=False), alpha / rank
        nn.init.zeros_(self.up.weight)

    def forward(self, x):
        return self.scale * self.up(self.down(x.to(self.down.weight.dtype)))


def adapt(body: nn.Module, rank: int, alpha: float, without: tuple[nn.Module, ...] = ()) -> None:
    """Freeze all weights; each linear layer but those of `without` gives W x + alpha / rank B A x from now on, its correction being `layer.lora`, in float32.

    What stands still is no part of `state_dict()`, and so of no checkpoint: it comes from where it came from.

    Hu et al. 2021 (2106.09685), section 4.1; A is drawn as in the authors' code, microsoft/LoRA, loralib/layers.py.
    """
    from transformers.pytorch_utils import Conv1D  # linear layers of GPT-2, their weights transposed

    body.requires_grad_(False)
    frozen = body.state_dict().keys() - dict(body.named_buffers()).keys()

    def leave_out(body, saved, prefix, *_):
        for name in frozen:
            del saved[prefix + name]

    def fill_in(body, saved, prefix, *_):
        for name in frozen:
            saved.setdefault(prefix + name, body.get_parameter(name))

    body.register_state_dict_post_hook(leave_out)
    body.register_load_state_dict_pre_hook(fill_in)
    for layer in [m for m in body.modules() if isinstance(m, nn.Linear | Conv1D) and m not in without]:
        out, into = layer.weight.T.shape if isinstance(layer, Conv1D) else layer.weight.shape
        layer.lora = Correction(into, out, rank, alpha)
        layer.register_forward_hook(lambda layer, given, z: z + layer.lora(given[0]).to(z.dtype))


@torch.no_grad()
def merged(body: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """All weights and buffers that files hold, by name, one after the other and in float32: W + alpha / rank B A where a layer has a correction.

    Of processes that share the weights out all must go through it alike.
    """
    from transformers.pytorch_utils import Conv1D

    saved = body.state_dict().keys()
    for name, p in body.named_parameters():
        path, _, leaf = name.rpartition(".")
        layer = body.get_submodule(path)
        if ".lora." in name:
            continue
        value = whole(p.detach()).float()
        if leaf == "weight" and hasattr(layer, "lora"):
            change = layer.lora.scale * (whole(layer.lora.up.weight) @ whole(layer.lora.down.weight))
            value = value + (change.T if isinstance(layer, Conv1D) else change)
        yield name, value
    yield from ((name, value) for name, value in body.named_buffers() if name in saved)
