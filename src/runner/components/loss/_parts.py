"""What losses share."""

import torch
from torch import Tensor


def wide(x: Tensor) -> Tensor:
    """At least fp32."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
