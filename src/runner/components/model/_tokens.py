"""Models of token ids."""

import torch

from runner import UserError


def known(vocabulary: int, info, dims: int = 1) -> int:
    """The ids that a model knows, from 0. Raises UserError where the data has more, which would be an index out of range at some step.

    So it does where an input has more than `dims` dimensions.
    """
    if len(info.shape) > dims:
        raise UserError(f"the model takes token ids (T,), this data has inputs of shape {info.shape}")
    if (info.vocabulary or 0) > vocabulary:
        raise UserError(f"the data has {info.vocabulary} token ids, the model knows {vocabulary}: set model.vocabulary={info.vocabulary}")
    return vocabulary


def ids(x):
    """Token ids, whole numbers of any type, as integers. Raises UserError for others, which mixing texts makes of them."""
    found = x.long()
    if x.is_floating_point() and not torch.equal(found.to(x.dtype), x):
        raise UserError("the model takes token ids, and is given other numbers: nothing may mix or change its inputs, as with=mixup does")
    return found
