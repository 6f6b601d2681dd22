"""A core and a spurious feature that agree in training and not in the test: does the model lean on the wrong one?"""

import torch

from runner import card
from runner.components.data._tables import divide
from runner.core.data import Data, Info, Split
from runner.core.rng import derive

CARD = card(
    paper="spurious2020",
    arxiv="2005.04345",
    source="Sagawa et al. 2020, section 4; authors' code ssagawa/overparam_spur_corr, toy_example_data.py and its README (n, variances)",
    tasks=("classification",),
)


def draw(n: int, agree: float, dims: tuple[int, int], deviations: tuple[float, float], generator: torch.Generator):
    """n samples of which round(n / 2 * agree) of each class carry the attribute of their class."""
    half = n // 2
    y = torch.cat([torch.zeros(half), torch.ones(half)]).long()
    with_it = torch.arange(half) < round(half * agree)
    attribute = torch.cat([~with_it, with_it]).long()
    parts = [(2.0 * v[:, None] - 1) + s * torch.randn(2 * half, d, generator=generator) for v, d, s in zip((y, attribute), dims, deviations, strict=True)]
    return torch.cat(parts, 1), y


def build(
    samples: int = 3000, test_samples: int = 1000, agree: float = 0.9, agree_test: float = 0.5, core: int = 100, spurious: int = 100,
    core_noise: float = 10.0, spurious_noise: float = 1.0, val: float = 0.0, train_size: int | None = None, split: int = 0,
):  # fmt: skip
    """Features N(y 1, core_noise^2 I) and N(a 1, spurious_noise^2 I), y and a in {-1, 1}; core features first.

    Args:
        samples: >= 4; of the training split.
        test_samples: >= 4; of the test split.
        agree: in [0, 1]; share of the training samples whose attribute a equals their class.
        agree_test: in [0, 1]; the same in the test; 0.5 makes the four groups equal.
        core: >= 1; dimensions of the core feature.
        spurious: >= 1; dimensions of the spurious feature.
        core_noise: >= 0; deviation of the core feature.
        spurious_noise: >= 0; deviation of the spurious feature.
        val: in [0, 1); share of the training rows that are split off for validation; they agree as in training.
        train_size: >= 1; train on so many of the training rows, as many of each class; all if not given.
        split: >= 0; which draw.
    """
    generator = torch.Generator().manual_seed(derive(split, "spurious"))
    sizes, noises = (core, spurious), (core_noise, spurious_noise)
    x, y = draw(samples, agree, sizes, noises, generator)
    test = Split(*draw(test_samples, agree_test, sizes, noises, generator))
    keep, held = divide(y, val, train_size, split, True)
    return Data(Info("classification", (core + spurious,), 2), Split(x[keep], y[keep]), test, None if held is None else Split(x[held], y[held]))
