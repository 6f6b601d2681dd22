import pytest
import torch

from runner.execution.assemble import assemble


@pytest.fixture
def digits():
    """`digits(sparsity, duration=..., **more)` is a loop on the digits; its rows of metrics are in `loop.rows`."""
    torch.set_num_threads(1)

    def make(sparsity, duration="3ep", width=32, hooks=None, **more):
        rows = []
        tree = {
            "device": "cpu", "data": "digits", "model": {"name": "mlp", "width": width}, "loss": "ce", "learner": "supervised", "optimizer": "sgd",
            "schedule": "constant", "noise": "none", "softmax": "softmax", "sparsity": sparsity, "with": hooks or {},
            "trainer": {"name": "standard", "duration": duration}, "eval": {"accuracy": {"name": "accuracy"}},
        }  # fmt: skip
        loop = assemble({**tree, **more}, rows.append)
        loop.rows = rows
        return loop

    return make
