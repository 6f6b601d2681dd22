"""References on a CPU take many short rows side by side, and masks by the bits of the numbers: both against what torch says plainly."""

import pytest
import torch
import torch.nn.functional as F

from runner.kernels import cross_entropy, dispatch, label_loss, log_softmax, nm_prune, references, softmax
from runner.kernels.references import MANY, keep_, kept, over_rows

SHAPES = [(MANY, 2), (500, 10), (7, 40, 5), (300, 7)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(("ours", "torchs"), [(softmax, torch.softmax), (log_softmax, torch.log_softmax)])
def test_values_gradients_and_memory_are_those_of_torch(shape, dtype, ours, torchs):
    x = (3 * torch.randn(shape, dtype=torch.float64)).to(dtype).requires_grad_()
    grad = torch.randn(shape).to(dtype)
    with dispatch.backend("reference"):
        y = ours(x)
        (d,) = torch.autograd.grad(y, x, grad)
    exact = x.detach().double().requires_grad_()
    z = torchs(exact, -1)
    (e,) = torch.autograd.grad(z, exact, grad.double())
    torch.testing.assert_close(y, z.to(dtype))
    torch.testing.assert_close(d, e.to(dtype))
    assert y.is_contiguous()
    assert y.dtype == dtype


@pytest.mark.parametrize("ours", [softmax, log_softmax])
def test_masked_rows_among_many(ours):
    x = torch.randn(500, 10)
    x[::7] = -torch.inf
    x[1::5, 3:] = -torch.inf
    few = torch.cat([ours(part) for part in x.split(50)])
    torch.testing.assert_close(ours(x), few, rtol=1e-5, atol=1e-6)
    assert (ours(x)[0] == ours(x[:1])).all()


def test_the_short_way_is_taken_only_where_it_is_the_faster(monkeypatch):
    monkeypatch.setattr(references, "REGISTER", 64)
    taken = []

    def spy(s, dim):
        taken.append(dim)
        return s.softmax(dim)

    for shape in [(500, 10), (5, 10), (500, 100)]:
        over_rows(spy, torch.randn(shape))
    assert taken == [0, -1, -1]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy_of_many_short_rows(smoothing, weighted):
    x, t = torch.randn(500, 10, requires_grad=True), torch.randint(10, (500,))
    t[::9] = -100
    weight = torch.rand(10) if weighted else None
    for reduction in ("none", "sum", "mean"):
        ours = cross_entropy(x, t, weight=weight, label_smoothing=smoothing, reduction=reduction)
        exact = F.cross_entropy(x.double(), t, None if weight is None else weight.double(), label_smoothing=smoothing, reduction=reduction)
        torch.testing.assert_close(ours, exact.float())
        torch.testing.assert_close(torch.autograd.grad(ours.sum(), x), torch.autograd.grad(exact.sum(), x))


@pytest.mark.parametrize(("active", "passive"), [("gce", "none"), ("nce", "mae"), ("ce", "rce"), ("focal", "none"), ("mae", "none")])
def test_losses_of_many_rows_are_those_of_few(active, passive):
    x, t = torch.randn(500, 10, requires_grad=True), torch.randint(10, (500,))
    many, few = label_loss(x, t, active, passive), torch.cat([label_loss(a, b, active, passive) for a, b in zip(x.split(50), t.split(50), strict=True)])
    torch.testing.assert_close(many, few)
    torch.testing.assert_close(torch.autograd.grad(many.sum(), x), torch.autograd.grad(few.sum(), x), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_a_mask_by_bits(dtype):
    x, mask = torch.randn(6, 9, 4).to(dtype).transpose(0, 1), torch.rand(9, 6, 4) < 0.5
    x[~mask] = torch.tensor([torch.nan, torch.inf, -torch.inf, -1.0], dtype=dtype).repeat(int((~mask).sum()) // 4 + 1)[: int((~mask).sum())]
    assert torch.equal(kept(x, mask), x.where(mask, 0))
    assert not kept(x, mask).signbit()[~mask].any()
    learnt = x.contiguous().requires_grad_()
    (d,) = torch.autograd.grad(kept(learnt, mask), learnt, torch.full_like(learnt, torch.nan))
    assert (d[~mask] == 0).all()
    assert d[mask].isnan().all()
    assert torch.equal(keep_(x, mask), x.where(mask, 0))


def test_a_mask_by_bits_is_differentiable_twice_and_maps():
    w = torch.randn(4, 8, dtype=torch.float64, requires_grad=True)
    mask = nm_prune(w.detach(), 2, 4)[1]
    assert torch.autograd.gradcheck(lambda w: kept(w, mask), (w,))
    assert torch.autograd.gradgradcheck(lambda w: kept(w, mask).square(), (w,))
    assert torch.equal(torch.func.vmap(kept)(w.detach(), mask), kept(w.detach(), mask))
    jacobian = torch.func.jacrev(lambda w: kept(w, mask).sum())(w.detach())
    assert torch.equal(jacobian, mask.double())
