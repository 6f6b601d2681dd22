import torch
from torch.nn import functional as F

from runner.components.loss.maxsup import build


def test_against_label_smoothing():
    """Zhou et al., lemma 3.2: label smoothing is CE + eps (z_y - mean z); so both agree where the prediction is right, and differ by the lead elsewhere."""
    g = torch.Generator().manual_seed(0)
    z, y = torch.randn(200, 5, generator=g, dtype=torch.double), torch.randint(5, (200,), generator=g)
    gap = build(0.1)(z, y) - F.cross_entropy(z, y, label_smoothing=0.1, reduction="none")
    right = z.argmax(-1) == y
    assert 10 < right.sum() < 190
    assert gap[right].abs().max() < 1e-12
    lead = z.amax(-1) - z.gather(1, y[:, None]).squeeze(1)
    assert torch.allclose(gap, 0.1 * lead, atol=1e-12)


def test_gradient_of_the_penalty():
    z = torch.tensor([[3.0, 1.0, 0.0, -1.0]], requires_grad=True)
    strong, weak = (torch.autograd.grad(build(a)(z, torch.tensor([2])).sum(), z)[0] for a in (1.0, 0.0))
    assert torch.allclose(strong - weak, torch.tensor([[0.75, -0.25, -0.25, -0.25]]), atol=1e-6)
