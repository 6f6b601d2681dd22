"""Pretrained image transformers that fit in a test: two narrow layers of random weights, in the files that `transformers` writes."""

from pathlib import Path

import torch

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}


def write(folder: Path, family: str = "ViT", **changed) -> Path:
    """Weights of a small model of a family of `transformers`, made for images of 32x32 in patches of 8x8."""
    import transformers

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = getattr(transformers, f"{family}Model")(getattr(transformers, f"{family}Config")(**{**SMALL, **changed}))
        for name, weight in model.named_parameters():
            if name.endswith("position_embeddings"):
                torch.nn.init.normal_(weight)  # such that it matters where a patch is
    model.save_pretrained(folder)
    return folder
