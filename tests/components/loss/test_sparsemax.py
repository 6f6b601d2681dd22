import torch

from runner.components.loss.sparsemax import build


def test_two_classes_by_hand():
    """Martins & Astudillo, section 3.3: of the lead s of the label, 0 from 1 on, -s up to -1, (s - 1)^2 / 4 between."""
    s = torch.tensor([-3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0])
    want = torch.tensor([3.0, 1.0, 0.5625, 0.25, 0.0625, 0.0, 0.0])
    assert torch.allclose(build()(torch.stack([s, torch.zeros(7)], -1), torch.zeros(7, dtype=torch.long)), want, atol=1e-6)


def test_soft_labels_by_hand():
    """Section 3.5: with q = (1/2, 1/2, 0), and z = q + 1 a perfect prediction; z = 0 gives p = 1/3 each."""
    z = torch.tensor([[1.5, 1.5, 1.0], [0.0, 0.0, 0.0]])
    loss = build()(z, torch.tensor([0.5, 0.5, 0.0]).expand(2, 3))
    assert torch.allclose(loss, torch.tensor([0.0, (1 / 2 - 1 / 3) / 2]), atol=1e-6)


def test_of_the_authors_definition():
    """Equation 19: -z_k + sum over the support of (z_j^2 - tau^2) / 2 + 1/2."""
    z = torch.tensor([[1.2, 0.9, -0.5, 0.6]], dtype=torch.double)
    tau = (1.2 + 0.9 + 0.6 - 1) / 3
    want = -0.9 + sum(v**2 - tau**2 for v in (1.2, 0.9, 0.6)) / 2 + 0.5
    assert torch.allclose(build()(z, torch.tensor([1])), torch.tensor([want], dtype=torch.double))
