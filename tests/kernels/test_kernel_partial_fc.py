"""Partial FC: in one process against the softmax of the classes that it keeps, and on two processes against one."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from runner.kernels import dispatch, partial_fc
from runner.kernels.partial_fc import kept_classes, margin

ROOT = Path(__file__).resolve().parents[2]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
MARGINS = [{}, {"cos": 0.4}, {"arc": 0.5}, {"arc": 0.3, "cos": 0.2}]


@pytest.fixture(params=["reference", "triton"])
def backend(request):
    with dispatch.backend(request.param):
        yield request.param


def make(n, d, classes, dtype=torch.float32, device=DEVICE):
    hidden, weight = (torch.randn(s, device=device, dtype=dtype, requires_grad=True) for s in [(n, d), (classes, d)])
    return hidden, weight, torch.randint(classes, (n,), device=device)


def whole(hidden, weight, target, scale=64.0, arc=0.0, cos=0.0, normalise=True):
    """The margin softmax over all classes, logits and all, by angles."""
    if not normalise:
        return F.cross_entropy(scale * hidden @ weight.T, target, reduction="none")
    cosine = F.normalize(hidden) @ F.normalize(weight).T
    angle = cosine.gather(1, target[:, None]).acos()
    moved = torch.where(angle + arc < math.pi, (angle + arc).cos(), angle.cos() - arc * math.sin(arc)) - cos
    return F.cross_entropy(scale * cosine.scatter(1, target[:, None], moved), target, reduction="none")


@pytest.mark.parametrize("options", [*MARGINS, {"normalise": False}], ids=str)
def test_rate_one_is_the_softmax(options, backend):
    hidden, weight, target = make(7, 5, 9)
    got, expected = partial_fc(hidden, weight, target, scale=8.0, **options), whole(hidden, weight, target, 8.0, **options)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    for a, b in zip(*(torch.autograd.grad(y.square().sum(), (hidden, weight)) for y in (got, expected)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)
    where = ("triton", "tiles") if backend == "triton" else ("reference", "torch")
    assert dispatch.used()[("linear_cross_entropy", *where)] == 1


def test_gradients():
    hidden, weight, target = make(4, 3, 6, torch.float64, "cpu")
    for options in (*MARGINS, {"normalise": False}):
        assert torch.autograd.gradcheck(lambda h, w, o=options: partial_fc(h, w, target, scale=4.0, **o), (hidden, weight))


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("options", [{}, {"arc": 0.5}, {"cos": 0.3}, {"normalise": False}])
def test_held_logits_are_the_same_as_those_that_are_not(options, reduction, monkeypatch):
    hidden, weight = (torch.randn(n, 8, dtype=torch.float64, requires_grad=True) for n in (20, 7))
    options = options | {"target": torch.randint(7, (20,)), "scale": 8.0, "reduction": reduction}
    module, answers = sys.modules[margin.__module__], []
    assert module._few(hidden, weight, options["target"], -100)
    for held in (True, False):
        monkeypatch.setattr(module, "_few", lambda *_, held=held: held)
        loss = partial_fc(hidden, weight, **options)
        answers.append([loss, *torch.autograd.grad(loss.sum(), (hidden, weight))])
    torch.testing.assert_close(*answers)


def test_margin_continues_beyond_pi():
    """ArcFace's target falls with the angle all the way, and its slope is finite at both ends."""
    cosine = torch.linspace(1, -1, 401, dtype=torch.float64, requires_grad=True)
    moved = margin(cosine, 0.5, 0.1)
    assert (moved.diff() < 0).sum() >= 398
    torch.testing.assert_close(moved[200], torch.tensor(math.cos(math.pi / 2 + 0.5) - 0.1, dtype=torch.float64))
    for end in (1.0, -1.0):
        x = torch.tensor(end, requires_grad=True)
        margin(x, 0.5, 0.0).backward()
        assert x.grad.isfinite()
    assert torch.equal(margin(cosine, 0.0, 0.0), cosine)


def test_sampled_classes_are_the_softmax_over_them(backend):
    hidden, weight, target = make(6, 5, 40)
    generator = lambda: torch.Generator(DEVICE).manual_seed(4)
    kept = kept_classes(target, 40, 0.4, generator())
    got = partial_fc(hidden, weight, target, 0.4, scale=8.0, arc=0.3, generator=generator())
    expected = whole(hidden, weight[kept], torch.searchsorted(kept, target), 8.0, 0.3)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    got, expected = (torch.autograd.grad(y.mean(), weight)[0] for y in (got, expected))
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)
    assert ((got != 0).any(1).nonzero()[:, 0] == kept).all()


def test_kept_classes():
    """All targets, uniform others; more targets than the share are kept too."""
    targets = torch.tensor([3, 3, 17, 0])
    counts = torch.zeros(20)
    for seed in range(400):
        kept = kept_classes(targets, 20, 0.5, torch.Generator().manual_seed(seed))
        assert len(kept) == 10
        counts[kept] += 1
    assert counts[[0, 3, 17]].tolist() == [400] * 3
    others = counts[[i for i in range(20) if i not in (0, 3, 17)]] / 400
    assert (others - 7 / 17).abs().max() < 0.1
    assert kept_classes(targets, 20, 0.05).tolist() == [0, 3, 17]


def test_edges(backend):
    """Ignored samples, no samples, a class alone, reductions, autocast, and what is refused."""
    hidden, weight, target = make(6, 5, 8)
    target[1::2] = -100
    loss = partial_fc(hidden, weight, target, 0.5)
    assert loss[1::2].tolist() == [0, 0, 0]
    assert not torch.autograd.grad(loss.sum(), hidden)[0][1::2].any()
    assert partial_fc(hidden[:0], weight, target[:0]).shape == (0,)
    alone = partial_fc(hidden, weight[:1], torch.zeros_like(target))
    assert not alone.any()
    assert not torch.autograd.grad(alone.sum(), weight)[0].any()
    assert not partial_fc(hidden, weight, torch.full_like(target, -100), 0.1).any()  # which keeps no class
    each = partial_fc(hidden, weight, target, arc=0.2)
    torch.testing.assert_close(partial_fc(hidden, weight, target, arc=0.2, reduction="sum"), each.sum())
    torch.testing.assert_close(partial_fc(hidden, weight, target, arc=0.2, reduction="mean"), each[::2].mean())
    with torch.autocast(DEVICE, torch.bfloat16):
        assert partial_fc(hidden.bfloat16(), weight, target).dtype == torch.float32
    for options, error in [({"rate": 0}, "rate"), ({"rate": 1.1}, "rate"), ({"cos": 0.1, "normalise": False}, "normalise"), ({"reduction": "avg"}, "none")]:
        with pytest.raises(ValueError, match=error):
            partial_fc(hidden, weight, target, **options)


def test_wrong_targets(backend):
    """A class that no process has is NaN, as for the other kernels; targets of another shape are refused."""
    hidden, weight, target = make(4, 5, 8)
    target[:2] = torch.tensor([8, -1])
    for rate in (1.0, 0.5):
        loss = partial_fc(hidden, weight, target, rate)
        assert loss.isnan().tolist() == [True, True, False, False]
    for wrong in (target[:1], target[:, None]):
        with pytest.raises(ValueError, match="targets of shape"):
            partial_fc(hidden, weight, wrong)


def test_compiles_without_a_graph_break(backend):
    hidden, weight, target = make(4, 3, 6)
    f = lambda h, w: partial_fc(h, w, target, arc=0.2, reduction="mean")
    given = torch.autograd.grad(f(hidden, weight), (hidden, weight))
    got = torch.autograd.grad(torch.compile(f, fullgraph=True, backend="aot_eager")(hidden, weight), (hidden, weight))
    for a, b in zip(got, given, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


SCRIPT = """
import json
import torch
from torch import distributed as dist
from runner.kernels import partial_fc
from runner.kernels.partial_fc import kept_classes

dist.init_process_group("gloo")
rank = dist.get_rank()
torch.manual_seed(0)
hidden, weight = torch.randn(8, 5, dtype=torch.float64), torch.randn(11, 5, dtype=torch.float64)
target = torch.randint(11, (8,))
target[5] = -100
rows, shard = slice(4 * rank, 4 * rank + 4), slice(0, 7) if rank == 0 else slice(7, 11)
found = []
for options in json.loads({options!r}):
    h, w = hidden[rows].clone().requires_grad_(), weight[shard].clone().requires_grad_()
    generator = torch.Generator().manual_seed(rank)
    loss = partial_fc(h, w, target[rows], scale=8.0, generator=generator, **options)
    loss.square().sum().backward()
    found.append([loss.tolist(), h.grad.tolist(), w.grad.tolist()])
said = []
for size in (4, 4 + rank):
    try:
        said.append(len(partial_fc(hidden[:size], weight[shard], target[:size])))
    except ValueError as error:
        said.append(str(error))
weight[10] = torch.nan  # a class of the second process that is nobody's target
odd = [partial_fc(hidden[rows], weight[shard], torch.full((4,), rank)).isnan().tolist()]
weight[10] = 0
odd.append(partial_fc(hidden[rows], weight[shard], torch.tensor([0, 10, 11, -1])).isnan().tolist())
with open(f"rank{{rank}}.json", "w") as file:
    json.dump([found, said, odd], file)
dist.destroy_process_group()
"""


def test_two_processes_are_one(tmp_path):
    """Unequal shards, an ignored sample, margins, a sample of the classes, the first class given or asked for; losses and both gradients."""
    cases = [{"rate": 1.0, "normalise": False}, {"rate": 1.0}, {"rate": 1.0, "arc": 0.3, "cos": 0.1}, {"rate": 0.6, "cos": 0.1}]
    (tmp_path / "script.py").write_text(SCRIPT.format(options=json.dumps(cases)))
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "script.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    (found0, said0, odd0), (found1, said1, odd1) = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1))
    assert odd0 == odd1 == [[True] * 4, [False, False, True, True]]  # no NaN is lost between them, and a class that neither has is one
    assert said0 == said1 == [4, "the processes hold different numbers of samples: [4, 5]"]
    torch.manual_seed(0)
    hidden, weight = (torch.randn(s, dtype=torch.float64, requires_grad=True) for s in [(8, 5), (11, 5)])
    target = torch.randint(11, (8,))
    valid = torch.arange(8) != 5
    for options, mine, other in zip(cases, found0, found1, strict=True):
        options = dict(options)
        kept = torch.arange(11)
        if options.pop("rate") < 1:
            inside = target[valid]
            pieces = [(inside[inside < 7], 7, 0), (inside[inside >= 7] - 7, 4, 7)]
            kept = torch.cat([kept_classes(t, n, 0.6, torch.Generator().manual_seed(r)) + first for r, (t, n, first) in enumerate(pieces)])
            assert len(kept) < 11
        loss = torch.zeros(8, dtype=torch.float64)
        loss[valid] = whole(hidden[valid], weight[kept], torch.searchsorted(kept, target[valid]), 8.0, **options)
        grads = torch.autograd.grad(loss.square().sum(), (hidden, weight))
        for expected, a, b in zip((loss, *grads), mine, other, strict=True):
            torch.testing.assert_close(torch.cat([torch.tensor(x, dtype=torch.float64) for x in (a, b)]), expected.detach(), rtol=1e-9, atol=1e-9)
