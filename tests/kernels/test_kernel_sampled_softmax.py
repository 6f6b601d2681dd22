"""Sampled softmax: its correction by exhaustive enumeration, its limits, its gradients, and the kernel below it."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from runner.kernels import dispatch, draw_classes, partial_fc, sampled_softmax

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(params=["reference", "triton"])
def backend(request):
    with dispatch.backend(request.param):
        yield request.param


def make(n, d, classes, dtype=torch.float32, device=DEVICE):
    hidden, weight, bias = (torch.randn(s, device=device, dtype=dtype, requires_grad=True) for s in [(n, d), (classes, d), (classes,)])
    return hidden, weight, bias, torch.randint(classes, (n,), device=device)


def expectation(f, law, m):
    """The mean of f(samples, expected) over all m-tuples of classes."""
    total = 0
    for samples in itertools.product(range(len(law)), repeat=m):
        samples = torch.tensor(samples)
        total = total + law[samples].prod() * f(samples, m * law[samples])
    return total


@pytest.mark.parametrize("m", [1, 3])
def test_the_partition_function_is_unbiased(m):
    """exp(loss + z_t) averages to the sum over all classes, and its gradient to that sum's gradient; the loss lies below on average."""
    hidden, weight, bias, target = make(2, 3, 4, torch.float64, "cpu")
    law = torch.tensor([0.1, 0.4, 0.2, 0.3], dtype=torch.float64)
    z = hidden @ weight.T + bias
    own = z.gather(1, target[:, None])[:, 0]
    loss = lambda samples, expected: sampled_softmax(hidden, weight, target, samples, expected, bias)
    mean = expectation(lambda *draw: (loss(*draw) + own).exp(), law, m)
    torch.testing.assert_close(mean, z.exp().sum(1))
    for a, b in zip(*(torch.autograd.grad(y.sum(), (hidden, weight, bias), retain_graph=True) for y in (mean, z.exp().sum(1))), strict=True):
        torch.testing.assert_close(a, b)
    assert (expectation(loss, law, m) < F.cross_entropy(z, target, reduction="none")).all()


def test_the_bias_of_the_loss_falls_with_the_number_of_draws():
    hidden, weight, bias, target = make(3, 2, 3, torch.float64, "cpu")
    law = torch.full((3,), 1 / 3, dtype=torch.float64)
    full = F.cross_entropy(hidden @ weight.T + bias, target, reduction="none")
    gaps = [(full - expectation(lambda *draw: sampled_softmax(hidden, weight, target, *draw, bias), law, m)).sum() for m in (1, 2, 4, 6)]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] > 0


def test_without_replacement_counts_are_the_rates_of_inclusion():
    hidden, weight, _, target = make(2, 3, 5, torch.float64, "cpu")
    z = hidden @ weight.T
    subsets = list(itertools.combinations(range(5), 2))
    expected = torch.full((2,), 2 / 5, dtype=torch.float64)
    mean = sum((sampled_softmax(hidden, weight, target, torch.tensor(s), expected)).exp() for s in subsets) / len(subsets)
    torch.testing.assert_close(mean * z.gather(1, target[:, None])[:, 0].exp(), z.exp().sum(1))


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_every_class_drawn_once_is_the_softmax(reduction, backend):
    hidden, weight, bias, target = make(9, 4, 6)
    target[::3] = -100
    got = sampled_softmax(hidden, weight, target, torch.randperm(6, device=DEVICE), torch.ones(6, device=DEVICE), bias, reduction=reduction)
    expected = F.cross_entropy(hidden @ weight.T + bias, target, reduction=reduction)
    torch.testing.assert_close(got, expected)
    for a, b in zip(*(torch.autograd.grad(y.square().sum(), (hidden, weight, bias)) for y in (got, expected)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert dispatch.used()[("linear_cross_entropy", *(("triton", "tiles") if backend == "triton" else ("reference", "torch")))] == 1


def test_gradients():
    hidden, weight, bias, target = make(4, 3, 6, torch.float64, "cpu")
    samples, expected = torch.tensor([0, 3, 3, 5, int(target[0])]), torch.tensor([0.5, 1.0, 1.0, 2.0, 0.3], dtype=torch.float64)
    f = lambda h, w, b: sampled_softmax(h, w, target, samples, expected, b)
    assert torch.autograd.gradcheck(f, (hidden, weight, bias))
    assert torch.autograd.gradgradcheck(f, (hidden, weight, bias))


def test_edges(backend):
    """Only the target drawn, no rows, extreme logits, autocast, what is refused."""
    hidden, weight, _, target = make(3, 4, 6)
    target[:] = 2
    one = torch.ones(2, device=DEVICE)
    loss = sampled_softmax(hidden, weight, target, torch.tensor([2, 2], device=DEVICE), one)
    assert loss.tolist() == [0, 0, 0]
    loss.sum().backward()
    assert not hidden.grad.any()
    assert sampled_softmax(hidden[:0], weight, target[:0], torch.tensor([2, 2], device=DEVICE), one).shape == (0,)
    big = sampled_softmax(1e4 * torch.eye(2, 4, device=DEVICE), torch.eye(6, 4, device=DEVICE), target[:2], torch.tensor([0, 1], device=DEVICE), one)
    assert big.tolist() == [1e4, 1e4]
    with torch.autocast(DEVICE, torch.bfloat16):
        assert sampled_softmax(hidden.bfloat16(), weight, target, torch.tensor([0, 1], device=DEVICE), one).dtype == torch.float32
    with pytest.raises(ValueError, match="none, sum or mean"):
        sampled_softmax(hidden, weight, target, target, one, reduction="avg")
    for targets, expected in ((target[:1], one), (target, one[:1])):
        with pytest.raises(ValueError, match="targets of shape"):
            sampled_softmax(hidden, weight, targets, target[:2], expected)


def test_gradients_of_a_class_that_many_rows_share_are_not_summed_in_half_precision(backend):
    """2000 rows of the same class, drawn 2000 times besides."""
    hidden, weight, bias, _ = make(2000, 4, 6, torch.bfloat16)
    target, samples = torch.full((2000,), 3, device=DEVICE), torch.arange(2000, device=DEVICE) % 2
    expected = torch.ones(2000, device=DEVICE)
    losses = {"sampled": lambda h, w, b: sampled_softmax(h.abs(), w, target, samples, expected, b)}
    losses["partial_fc"] = lambda h, w, b: partial_fc(h.abs(), w, target, 0.9, scale=4.0, generator=torch.Generator(DEVICE).manual_seed(0)) + 0 * b.sum()
    for f in losses.values():
        exact = torch.autograd.grad(f(*(x.float() for x in (hidden, weight, bias))).sum(), (weight, bias))
        for got, whole in zip(torch.autograd.grad(f(hidden, weight, bias).sum(), (weight, bias)), exact, strict=True):
            torch.testing.assert_close(got, whole, rtol=2e-2, atol=2e-2 * whole.abs().max().item())


def test_autocast_does_not_round_the_correction(backend):
    """-log n of rare classes is long; rounded to bfloat16 it would shift every loss the same way."""
    hidden, weight, _, target = make(5, 4, 6, torch.bfloat16)
    samples, expected = torch.arange(6, device=DEVICE), torch.full((6,), 1.2e-4, device=DEVICE)
    exact = sampled_softmax(hidden.float(), weight.float(), target, samples, expected)
    with torch.autocast(DEVICE, torch.bfloat16):
        torch.testing.assert_close(sampled_softmax(hidden, weight, target, samples, expected), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("law", ["uniform", "log_uniform", torch.tensor([0.1, 0.2, 0.3, 0.05, 0.05, 0.3])])
def test_draws_follow_their_law(law):
    """Counts of many draws against the expected counts: chi-square below its 0.9999 quantile for 5 degrees of freedom."""
    number = 30_000
    samples, expected = draw_classes(6, number, law, generator=torch.Generator().manual_seed(3))
    mean = torch.zeros(6).scatter(0, samples, expected)
    assert mean.sum().item() == pytest.approx(number, rel=1e-4)
    counts = samples.bincount(minlength=6)
    assert ((counts - mean).square() / mean).sum() < 25.7
    if law == "log_uniform":
        assert mean[0].item() == pytest.approx(number * math.log(2) / math.log(7), rel=1e-5)
    assert torch.equal(samples, draw_classes(6, number, law, generator=torch.Generator().manual_seed(3))[0])
    with pytest.raises(ValueError, match="log_uniform"):
        draw_classes(6, 2, "zipf")


def test_compiles_without_a_graph_break(backend):
    hidden, weight, bias, target = make(4, 3, 6)
    samples, expected = draw_classes(6, 5, device=DEVICE)
    f = lambda h, w: sampled_softmax(h, w, target, samples, expected, bias.detach(), reduction="mean")
    given = torch.autograd.grad(f(hidden, weight), (hidden, weight))
    got = torch.autograd.grad(torch.compile(f, fullgraph=True, backend="aot_eager")(hidden, weight), (hidden, weight))
    for a, b in zip(got, given, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
