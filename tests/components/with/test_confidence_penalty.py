"""confidence_penalty: the entropy of known distributions, and its gradient against that of a KL divergence."""

import math
from types import SimpleNamespace

import torch

from runner.config import registry

build = registry.load("with", "confidence_penalty").build


def penalty(z, beta=1.0):
    return build(beta).penalty(None, SimpleNamespace(z=z))


def test_entropy_of_known_distributions():
    assert math.isclose(penalty(torch.zeros(3, 8)).item(), -math.log(8), rel_tol=1e-6)
    assert abs(penalty(torch.tensor([[50.0, 0.0, 0.0]])).item()) < 1e-6
    p = torch.tensor([0.5, 0.25, 0.25])
    assert math.isclose(penalty(p.log()[None], 0.3).item(), -0.3 * 1.5 * math.log(2), rel_tol=1e-5)


def test_it_is_the_divergence_from_the_uniform_up_to_a_constant():
    z = torch.randn(5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (ours,) = torch.autograd.grad(penalty(z), z)
    uniform = torch.full((5, 7), 1 / 7, dtype=torch.float64)
    divergence = torch.nn.functional.kl_div(uniform.log(), z.softmax(-1), reduction="batchmean")  # KL(p || uniform)
    (theirs,) = torch.autograd.grad(divergence, z)
    assert torch.allclose(ours.double(), theirs, atol=1e-6)
