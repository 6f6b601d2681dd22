from types import SimpleNamespace

import torch

from runner.config import registry
from runner.core.data import Batch, Info
from runner.core.rng import Streams

cutmix = registry.load("with", "cutmix")
N, SIDE = 6, 12


def pasted(s, prob=1.0, alpha=1.0, height=SIDE, width=SIDE):
    """A batch whose image k has the value k everywhere, and label k."""
    x = torch.arange(N).float().view(N, 1, 1, 1).expand(N, 2, height, width).contiguous()
    batch = Batch(x, torch.arange(N), torch.arange(N))
    cutmix.build(alpha, prob).batch(s, batch)
    return x, batch


def state(seed=0):
    return SimpleNamespace(rng=Streams(seed), info=Info("classification", (2, SIDE, SIDE), N))


def test_target_is_the_share_of_pixels_of_each_image():
    s = state()
    for _ in range(50):
        before, batch = pasted(s)
        counts = torch.stack([(batch.x[:, 0] == k).flatten(1).double().mean(1) for k in range(N)], 1)
        assert torch.allclose(batch.t.double(), counts, atol=1e-6)
        assert torch.equal(before[:, 0, 0, 0], torch.arange(N).float())  # the images of the split are not written


def test_one_box_for_the_batch_and_square_where_it_is_not_cut_off():
    s, squares = state(1), 0
    for _ in range(200):
        _, batch = pasted(s)
        changed = batch.x != torch.arange(N).view(N, 1, 1, 1)
        boxes = changed[changed.flatten(1).any(1)]
        if not len(boxes):
            continue
        assert (boxes == boxes[:1, :1]).all()
        rows, columns = boxes[0, 0].any(1).nonzero()[:, 0], boxes[0, 0].any(0).nonzero()[:, 0]
        assert boxes[0, 0].sum() == len(rows) * len(columns) == (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
        if min(rows[0], columns[0]) > 0 and max(rows[-1], columns[-1]) < SIDE - 1:
            squares += 1
            assert len(rows) == len(columns)
    assert squares > 20


def test_boxes_are_larger_when_alpha_puts_lam_in_the_middle():
    """The mean share of a clipped box: by integration over lam and the centre, for continuous sides."""
    s, shares = state(2), []
    for _ in range(400):
        _, batch = pasted(s, alpha=50.0, height=40, width=40)
        weights = batch.t[0]
        shares.append(1 - weights[0].item() if weights[0] < 1 else None)
    found = torch.tensor([v for v in shares if v is not None])
    cut = 0.5**0.5  # lam near 1/2
    grid = (torch.arange(2000) + 0.5) / 2000
    side = ((grid + cut / 2).clamp(max=1) - (grid - cut / 2).clamp(min=0)).mean()
    assert abs(found.mean() - side**2) < 0.03


def test_share_of_the_batches():
    s = state(3)
    mixed = sum(pasted(s, prob=0.3)[1].t.is_floating_point() for _ in range(400))
    assert abs(mixed / 400 - 0.3) < 4 * (0.21 / 400) ** 0.5
