"""crop_flip by brute force, Normalise by torchvision."""

import torch

from runner.components.data._images import Normalise, crop_flip


def test_every_result_is_one_of_the_162_crops_and_all_occur():
    x = torch.arange(1.0, 1 + 2 * 5 * 6).reshape(1, 2, 5, 6)
    padded = torch.nn.functional.pad(x, (4, 4, 4, 4))
    wanted = {}
    for top in range(9):
        for left in range(9):
            crop = padded[0, :, top : top + 5, left : left + 6]
            wanted[crop.numpy().tobytes()] = (top, left, 0)
            wanted[crop.flip(-1).contiguous().numpy().tobytes()] = (top, left, 1)
    out = crop_flip(x.expand(4000, -1, -1, -1), torch.Generator().manual_seed(0))
    seen = [wanted[row.contiguous().numpy().tobytes()] for row in out]
    assert len(set(seen)) == len(set(wanted.values()))
    tops, lefts, flips = torch.tensor(seen).T
    expected, spread = 4000 / 9, (4000 / 9 * 8 / 9) ** 0.5
    for counts in (tops.bincount(), lefts.bincount()):  # crops that only see padding coincide, so a few are counted for others
        assert (counts - expected).abs().max() < 6 * spread
    assert abs(flips.float().mean() - 0.5) < 0.05
    again = crop_flip(x.expand(4000, -1, -1, -1), torch.Generator().manual_seed(0))
    assert torch.equal(out, again)


def test_normalising_is_torchvisions():
    from torchvision import transforms

    images = torch.randint(256, (3, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.25)
    theirs = transforms.Compose([transforms.ToTensor(), transforms.Normalize(mean, std)])
    wanted = torch.stack([theirs(i.permute(1, 2, 0).numpy()) for i in images])
    assert torch.equal(Normalise(mean, std)(images), wanted)
    assert images.dtype == torch.uint8
