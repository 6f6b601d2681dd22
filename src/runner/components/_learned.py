"""Weights that a network brings along from another training: methods that begin with other initial weights leave these as they are."""

from torch import nn


def bring(module: nn.Module) -> None:
    """Mark all weights of a module as learned elsewhere."""
    for p in module.parameters():
        p.learned = True


def drawn(model: nn.Module) -> list[str]:
    """Names of the trainable parameters whose first values were drawn."""
    return [name for name, p in model.named_parameters() if p.requires_grad and not getattr(p, "learned", False)]
