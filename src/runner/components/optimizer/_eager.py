"""torch's optimizers without what they do for others at each step, which small models feel.

Their decorators keep the compiler away, and import torch._dynamo for that, 1.4 s; they report to a profiler and call hooks that nobody has here.
"""

import inspect

import torch

METHODS = ("add_param_group", "state_dict", "load_state_dict")


def zero_grad(self, set_to_none: bool = True) -> None:
    """Forget the gradients."""
    if not set_to_none:
        raise ValueError("gradients are forgotten, not set to zero")
    for group in self.param_groups:
        for p in group["params"]:
            p.grad = None


def eager(kind: type[torch.optim.Optimizer]) -> type[torch.optim.Optimizer]:
    """The same optimizer, its methods free of decorators (functools keeps what they wrap)."""
    body = {name: inspect.unwrap(getattr(kind, name)) for name in METHODS}
    body |= {"step": torch.no_grad()(inspect.unwrap(kind.step)), "zero_grad": zero_grad, "profile_hook_step": staticmethod(lambda step: step)}
    return type(kind.__name__, (kind,), body)
