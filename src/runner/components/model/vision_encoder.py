"""A pretrained image transformer of the Hugging Face hub, with a new linear head on its class token."""

import inspect
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from runner import UserError, card
from runner.components._hub import read
from runner.components._learned import bring

CARD = card(source="library `transformers`, AutoModel; no code of the model is run", tasks=("classification",), images=True)


class VisionEncoder(nn.Module):
    def __init__(self, network: nn.Module, size: int):
        super().__init__()
        self.network, self.size = network, size
        known = inspect.signature(network.forward).parameters  # some networks fit their positions to the size by themselves, others on request
        self.options = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in known else {}

    def tokens(self, x):
        x = x.expand(-1, 3, -1, -1)
        if x.shape[-2:] != (self.size, self.size):
            x = F.interpolate(x, (self.size, self.size), mode="bicubic", antialias=True)
        return self.network(pixel_values=x, **self.options).last_hidden_state

    def forward(self, x):
        return self.head(self.tokens(x)[:, 0])


def build(path: str, size: int = 224, attention: Literal["sdpa", "eager"] = "sdpa"):
    """Images (B, 1 or 3, H, W), resized to squares, to logits (B, C): linear in the last hidden state of the class token. All is trained, in float32.

    Images stay normalised as the data normalise them, whatever the network was trained on. One channel is shown as three. Of ViT and DINOv2 the last
    hidden state has been through the last layer normalisation. The head starts from normal weights of deviation 0.02 and biases of 0.

    Args:
        path: name on the hub such as `facebook/dinov2-base`, or a folder with its files.
        size: >= 1; pixels of a side of the square to which images are resized, bicubic and smoothed; a multiple of the network's patches.
        attention: eager is slower, and what some models, and methods that differentiate twice, need.
    """

    def make(info, softmax):
        del softmax
        if len(info.shape) != 3 or info.shape[0] not in (1, 3):
            raise UserError(f"model=vision_encoder takes images of 1 or 3 channels, not inputs of shape {info.shape}")
        network = read("AutoModel", path, "image transformer", "model=vision_encoder", "model.path", attn_implementation=attention).float()
        patch = getattr(network.config, "patch_size", None)
        if not isinstance(patch, int):
            raise UserError(f"'{path}' is no transformer of image patches; choose another with model.path")
        if size % patch:
            raise UserError(f"model.size={size} is not a multiple of {patch}, the side of the patches of '{path}'")
        bring(network)
        model = VisionEncoder(network, size)
        try:
            with torch.no_grad():
                tokens = model.eval().tokens(torch.zeros(1, *info.shape))
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
            said = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(f"'{path}' does not take images of {size}x{size}, see model.size: {said}") from error
        if tokens.ndim != 3 or tokens.shape[1] <= (size // patch) ** 2:  # a token for each patch and none besides, or fewer
            raise UserError(f"'{path}' has no class token beside those of its patches; choose another with model.path")
        model.head = nn.Linear(tokens.shape[-1], info.outputs)
        nn.init.normal_(model.head.weight, std=0.02)
        nn.init.zeros_(model.head.bias)
        return model.train()

    return make
