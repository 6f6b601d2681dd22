"""The policy's gradient against a closed form, masks and their densities by hand, and the two phases."""

import pytest
import torch
from torch.nn import functional as F

from runner import contracts
from runner.components.learner import noise_mask


def test_one_cell_the_policy_gradient_is_that_of_the_expected_loss():
    """With the mask m ~ Beta(a, b) and the loss m^2, E = a (a + 1) / ((a + b) (a + b + 1))."""
    torch.manual_seed(0)
    logs = torch.tensor([0.5, 0.2]).double()
    mask = torch.distributions.Beta(*logs.exp()).sample((400_000, 1)).clamp(1e-6, 1 - 1e-6)
    parameters = logs.clone().requires_grad_()
    (noise_mask.density(mask, parameters.view(2, 1, 1).expand(2, len(mask), 1)) * mask[:, 0] ** 2).mean().backward()
    exact = logs.clone().requires_grad_()
    a, b = exact.exp()
    (a * (a + 1) / ((a + b) * (a + b + 1))).backward()
    assert torch.allclose(parameters.grad.double(), exact.grad, rtol=0.05)


def test_the_density_adds_over_cells():
    mask, logs = torch.tensor([[0.2, 0.9], [0.5, 0.3]]), torch.tensor([[[0.0, 0.7], [0.1, 0.2]], [[0.0, -0.3], [0.4, 0.5]]])
    for b in range(2):
        total = sum(torch.distributions.Beta(logs[0, b, c].exp(), logs[1, b, c].exp()).log_prob(mask[b, c]).exp() for c in range(2))
        assert noise_mask.density(mask, logs)[b].item() == pytest.approx(total.log().item(), rel=1e-5)


def test_masks_are_enlarged_and_blurred():
    learner = noise_mask.build(grid=2, sigma=0.0)
    mask = torch.tensor([[0.1, 0.2, 0.3, 0.4]])
    found = learner.masked(torch.ones(1, 3, 4, 4), mask)
    assert torch.equal(found[0, 1], torch.tensor([[0.1, 0.1, 0.2, 0.2]] * 2 + [[0.3, 0.3, 0.4, 0.4]] * 2))
    spot = torch.zeros(1, 1, 15, 15)
    spot[0, 0, 7, 7] = 1
    found = noise_mask.blur(spot, 1.5)[0, 0]
    assert found.sum().item() == pytest.approx(1, abs=1e-5)
    assert (found[7, 9] / found[7, 7]).item() == pytest.approx(torch.exp(torch.tensor(-4 / 4.5)).item(), rel=1e-4)
    assert torch.allclose(noise_mask.blur(torch.full((1, 1, 8, 8), 0.7), 2.0), torch.full((1, 1, 8, 8), 0.7))


def test_heated_by_the_scaled_loss_and_then_fine_tuned():
    training = contracts.start(contracts.config("learner", "noise_mask", {"rate": 0.5, "share": 0.3}))
    state, rates = training.state, []
    learner = next(c.object for c in training.components if c.name == "learner/noise_mask")
    batch = state.data.train.fetch(torch.arange(6))
    base, predicted = learner.base.clone(), learner.policy(batch.x)
    found = learner.compute(state, batch)
    assert torch.allclose(learner.base, 0.99 * base + 0.01 * predicted.mean(1, keepdim=True))
    plain = F.cross_entropy(batch.z, batch.y, reduction="none")
    assert not torch.allclose(state.model(batch.x), batch.z)  # it saw masked images
    assert all(0 < r < 6 for r in (found / plain).tolist())
    training.run(lambda now: rates.append((now.state.step, now.state.optimizer.param_groups[0]["lr"])))
    first, second = ({r for s, r in rates if low < s <= high} for low, high in ((0, 21), (21, 42)))
    assert len(first) == len(second) == 1
    assert second.pop() == pytest.approx(0.5 * first.pop())
    assert torch.allclose(learner.compute(state, batch), F.cross_entropy(state.model(batch.x), batch.y, reduction="none"))
