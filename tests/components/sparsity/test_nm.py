"""N:M sparsity: the pattern by counting, the gradient of SR-STE in closed form, and who sees dense and who masked weights."""

import copy
import itertools

import pytest
import torch
from small import loop

from runner import UserError
from runner.components.sparsity import nm
from runner.core.events import Component
from runner.core.weights import matrices


def of(keep, group, lam=2e-4, **more):
    return loop(Component("sparsity/nm", nm.build(keep, group, lam), nm.CARD), **more)


def best_of_groups(w, n, m):
    """Brute force: in each group of m neighbours the n whose magnitudes sum to most."""
    mask = torch.zeros_like(w)
    for row, start in itertools.product(range(w.shape[0]), range(0, w.shape[1], m)):
        choice = max(itertools.combinations(range(start, start + m), n), key=lambda c: sum(abs(w[row, i].item()) for i in c))
        mask[row, list(choice)] = 1
    return mask


@pytest.mark.parametrize(("n", "m"), [(1, 4), (2, 4), (4, 8), (1, 1), (3, 3)])
def test_the_mask_keeps_the_largest_of_every_group(n, m):
    g = torch.Generator().manual_seed(n)
    w = torch.randn(6, 24, generator=g)
    assert torch.equal(nm.Pattern(n, m).mask(w).float(), best_of_groups(w, n, m))
    assert torch.equal(nm.Pattern(n, m)(w), w * best_of_groups(w, n, m))


def test_groups_of_a_convolution_run_along_its_inputs():
    w = torch.randn(5, 8, 3, 3, generator=torch.Generator().manual_seed(0))
    mask = nm.Pattern(2, 4).mask(w).float()
    for r, c in itertools.product(range(3), range(3)):
        assert torch.equal(mask[:, :, r, c], best_of_groups(w[:, :, r, c], 2, 4))


def test_equal_weights_still_give_exactly_n():
    assert nm.Pattern(2, 4).mask(torch.ones(3, 8)).int().view(3, 2, 4).tolist() == [[[1, 1, 0, 0]] * 2] * 3


def test_one_step_is_sr_ste_in_closed_form():
    """Linear softmax regression: the gradient of the masked weight is (p - onehot)' x / B, so W <- W - rate ((p - onehot)' x / B + lam (1 - m) W)."""
    rate, lam = 0.3, 0.05
    training = of(2, 5, lam, n=8, duration="1it", lr=rate, model=torch.nn.Sequential(torch.nn.Linear(5, 3)))
    dense = copy.deepcopy(training.state.model[0].parametrizations.weight.original.detach())
    bias = training.state.model[0].bias.detach().clone()
    training.run()
    x, y = training.state.batch.x, training.state.batch.y
    mask = best_of_groups(dense, 2, 5)
    residual = (x @ (dense * mask).T + bias).softmax(-1) - torch.nn.functional.one_hot(y, 3)
    expected = dense - rate * (residual.T @ x / len(y) + lam * (1 - mask) * dense)
    assert torch.allclose(training.state.model[0].parametrizations.weight.original, expected, atol=1e-6)
    assert not torch.equal(mask, torch.ones_like(mask))


def test_the_decay_is_added_once_however_the_batch_is_computed():
    whole, pieces = (of(2, 5, 0.5, n=8, duration="3it", accumulate=k, model=torch.nn.Sequential(torch.nn.Linear(5, 3))) for k in (1, 4))
    whole.run()
    pieces.run()
    for name, w in whole.state.weights().items():
        assert torch.allclose(w, pieces.state.weights()[name], atol=1e-6)


def test_the_mask_moves_and_dense_weights_are_kept():
    training = of(1, 4, 2e-4, n=64, duration="60it", lr=0.3)
    layer = training.state.model[3]
    first = layer.parametrizations.weight[0].mask(layer.parametrizations.weight.original)
    training.run()
    dense = layer.parametrizations.weight.original
    assert (dense != 0).all()
    assert not torch.equal(first, layer.parametrizations.weight[0].mask(dense))
    assert torch.equal(training.state.weights()["3.parametrizations.weight.original"], dense)  # what checkpoints and averages see
    assert ((layer.weight.view(3, 2, 4) != 0).sum(-1) == 1).all()  # what is computed with
    assert torch.equal(matrices(training.state.model)["3.weight"], layer.weight)


def test_averaged_weights_are_masked_by_their_own_pattern():
    training = of(1, 4, n=64, duration="20it")
    training.run()
    one = training.state.weights()
    g = torch.Generator().manual_seed(0)
    mean = {name: (w + torch.randn(w.shape, generator=g)) / 2 for name, w in one.items()}
    training.state.load_weights(mean)
    w = mean["3.parametrizations.weight.original"]
    assert torch.equal(training.state.model[3].weight, w * best_of_groups(w, 1, 4))


def test_layers_that_do_not_divide_stay_dense():
    training = of(2, 4)  # 5 inputs to the first layer, 8 to the second
    assert isinstance(training.state.model[0].weight, torch.nn.Parameter)
    assert hasattr(training.state.model[3], "parametrizations")
    with pytest.raises(UserError, match="no layer"):
        of(2, 7)
    with pytest.raises(ValueError, match="exceed"):
        nm.build(5, 4)


def test_named_layers_stay_dense():
    layers = lambda: torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Linear(8, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
    for dense, sparse in ((), {"2", "4"}), (("4",), {"2"}):
        model = loop(Component("sparsity/nm", nm.build(dense=dense), nm.CARD), model=layers()).state.model
        assert {name for name, module in model.named_children() if hasattr(module, "parametrizations")} == sparse
    with pytest.raises(UserError, match="there are 0, 2, 4"):
        loop(Component("sparsity/nm", nm.build(dense=["fc"]), nm.CARD), model=layers())
