import subprocess
import sys

import pytest
import torch

from runner.components.optimizer import adam, adamw, sgd

PAIRS = {
    "sgd": (sgd.build(lr=0.1, momentum=0.8, weight_decay=0.01, nesterov=True), lambda p: torch.optim.SGD(p, 0.1, 0.8, weight_decay=0.01, nesterov=True)),
    "adam": (adam.build(lr=0.1, weight_decay=0.1), lambda p: torch.optim.Adam(p, 0.1, weight_decay=0.1)),
    "adamw": (adamw.build(lr=0.1), lambda p: torch.optim.AdamW(p, 0.1)),
}


def trained(make, steps: int = 5, halfway=None):
    """Weights after some steps on a quartic, and the optimizer; at step 3 its state goes through `halfway`."""
    torch.manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(4, 3)), torch.nn.Parameter(torch.randn(3))]
    optimizer = make(weights)
    for step in range(steps):
        optimizer.zero_grad()
        assert all(w.grad is None for w in weights)
        sum((w**4).sum() for w in weights).backward()
        if step == 3 and halfway:
            optimizer.load_state_dict(halfway(optimizer.state_dict()))
        optimizer.step()
    return weights, optimizer


@pytest.mark.parametrize("name", PAIRS)
def test_every_bit_is_that_of_torch(name):
    ours, theirs = PAIRS[name]
    (a, mine), (b, peer) = trained(ours, halfway=lambda saved: {**saved}), trained(theirs)
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert isinstance(mine, type(peer))
    assert mine.state_dict()["param_groups"] == peer.state_dict()["param_groups"]


def test_a_closure_has_gradients():
    w = torch.nn.Parameter(torch.tensor([3.0]))
    optimizer = sgd.build(lr=0.5, momentum=0.0)([w])

    def closure():
        optimizer.zero_grad()
        loss = (w**2).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 9.0
    assert w.item() == 0.0


def test_a_run_does_not_import_the_compiler():
    """torch imports it where its own optimizers are first used."""
    code = "import sys; from runner.execution import warm; warm.warm([['data', 'digits'], ['optimizer', 'adam']], [])"
    code += "; print('torch._dynamo' in sys.modules, 'sklearn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(sys.path)})
    assert done.stdout.split() == ["False", "False"]
