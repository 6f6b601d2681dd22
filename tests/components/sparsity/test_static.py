"""Static masks: drawn once, uniformly among all masks of their size, and never moved."""

from types import SimpleNamespace

import torch

from runner.components.sparsity._masks import draw


def test_masks_are_there_before_the_first_step_and_never_move(digits):
    loop = digits({"name": "static", "sparsity": 0.95, "distribution": "uniform"}, duration="10it")
    first = {name: mask.clone() for name, mask in loop.state.masks.items()}
    for name, mask in first.items():
        assert (loop.state.model.get_parameter(name)[mask == 0] == 0).all()
        assert abs(float(mask.mean()) - 0.05) <= 1 / mask.numel()
    loop.run()
    assert all(torch.equal(mask, loop.state.masks[name]) for name, mask in first.items())


def test_every_place_is_as_likely():
    g, hits = torch.Generator().manual_seed(0), torch.zeros(3, 4)
    model = torch.nn.Sequential(torch.nn.Linear(4, 3))
    for _ in range(3000):
        state = SimpleNamespace(model=model, masks={}, enforce_masks=lambda: None)
        draw(state, 0.75, "uniform", g)
        assert state.masks["0.weight"].sum() == 3
        hits += state.masks["0.weight"]
    assert (hits / 3000 - 0.25).abs().max() < 4 * (0.25 * 0.75 / 3000) ** 0.5


def test_the_model_starts_from_the_dense_ones_weights(digits):
    sparse, dense = digits({"name": "static", "sparsity": 0.5}), digits("none")
    for name, mask in sparse.state.masks.items():
        assert torch.equal(sparse.state.model.get_parameter(name), dense.state.model.get_parameter(name) * mask)
