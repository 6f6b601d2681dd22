"""A strong view of photographs: other colours, no colours, blur, erased patches, whatever the photograph shows staying where it is."""

import torch
from torch import Tensor

# Unbiased Teacher's, as wkfdb/MarvelOVD has them in data/detection_utils.py: probability, least and most of the area, of height by width
PATCHES = ((0.7, (0.05, 0.2), (0.3, 3.3)), (0.5, (0.02, 0.2), (0.1, 6)), (0.3, (0.02, 0.2), (0.05, 8)))


def strong(x: Tensor, mean: tuple[float, ...], std: tuple[float, ...], seed: int) -> Tensor:
    """Images (n, 3, H, W), of which those in [0, 1] were normalised by `mean` and `std`; each is changed in its own way, drawn from the seed."""
    from torchvision.transforms import v2

    change = v2.Compose(
        [
            v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.8),
            v2.RandomGrayscale(0.2),
            v2.RandomApply([v2.GaussianBlur(13, (0.1, 2.0))], 0.5),
            *(v2.RandomErasing(p, area, ratio, "random") for p, area, ratio in PATCHES),
        ]
    )
    mean, std = (torch.tensor(v, device=x.device).view(-1, 1, 1) for v in (mean, std))
    with torch.random.fork_rng(devices=[]):  # they draw from torch's own stream of the CPU
        torch.manual_seed(seed)
        changed = torch.stack([change(image) for image in (x * std + mean).clamp(0, 1)])
    bytes_ = (255 * changed).trunc().remainder(256)  # what is drawn for a patch is normal: there, too, bytes wrap around
    return (bytes_ / 255 - mean) / std
