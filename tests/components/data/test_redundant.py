import torch

from runner.components.data.redundant import build


def test_labels_are_linear_in_the_inputs_and_most_samples_nearly_flat():
    data = build(samples=500, features=12, core=4, share=0.6, shrink=0.01)
    x, y = torch.cat([data.train.x, data.test.x]), torch.cat([data.train.y, data.test.y])
    a = torch.cat([x, torch.ones(len(x), 1)], 1).double()
    w = torch.linalg.lstsq(a, y.double()).solution  # 13 unknowns, 500 equations
    assert (a @ w - y).abs().max() < 1e-4
    flat = x[:, 4:].std(1) < 0.1
    assert flat.sum() == 300
    assert 0.5 < x[flat][:, :4].std() < 1.5


def test_another_split_is_another_problem():
    assert not torch.equal(build(split=0).train.x, build(split=1).train.x)
    assert torch.equal(build().train.x, build().train.x)
