"""What models of sequences read of the data's `Info`."""


def predicted(info) -> int:
    """How many positions at the end of a sequence the model gives logits for: all, unless the data asks for fewer."""
    return getattr(info, "predicted", info.shape[0])
