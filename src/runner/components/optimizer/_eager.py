"""torch's optimizers without torch._dynamo, which their first call imports: 1.4 s at the start of a run, for a compiler that does not see them here."""

import inspect

import torch

METHODS = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")


def eager(kind: type[torch.optim.Optimizer]) -> type[torch.optim.Optimizer]:
    """The same optimizer, its methods free of the decorators that ask the compiler not to look (functools keeps what they wrap)."""
    body = {name: inspect.unwrap(getattr(kind, name)) for name in METHODS}
    body["step"] = torch.no_grad()(inspect.unwrap(kind.step))
    return type(kind.__name__, (kind,), body)
