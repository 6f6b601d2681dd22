"""What holds for all of them: exact counts, exact zeros in whatever is evaluated, masks that survive other weights, exact resume."""

import pytest
import torch

from runner import UserError, contracts
from runner.config import registry
from runner.core.card import Card
from runner.core.events import Component
from runner.core.weights import matrices

OPTIONS = {
    "static": {"name": "static", "sparsity": 0.8},
    "set": {"name": "set", "sparsity": 0.8, "every": "7it"},
    "rigl": {"name": "rigl", "sparsity": 0.8, "every": "5it"},
    "magnitude": {"name": "magnitude", "sparsity": 0.8, "every": "5it", "begin": 0.1, "end": 0.5},
    "magnitude-global": {"name": "magnitude", "sparsity": 0.8, "every": "5it", "begin": 0.1, "end": 0.5, "scope": "global"},
    "nm": {"name": "nm", "n": 1, "m": 4},
}
every = pytest.mark.parametrize("option", OPTIONS)
HOOKS = {name: {name: {"name": name}} for name in ("ema", "sam", "weight_averaging", "lookahead") if name in registry.options("with")}


class Look:
    """An evaluator that looks at the weights that the evaluation really uses."""

    splits = ("test",)

    def __init__(self):
        self.zeros, self.seen = [], []

    def measure(self, state, split):
        layers = [m for m in state.model.modules() if isinstance(m, torch.nn.Linear)]
        used = []
        handles = [m.register_forward_hook(lambda m, x, y: used.append((m.weight, x[0], y, m.bias))) for m in layers]
        state.model(split.fetch(torch.arange(8)).x)
        for handle in handles:
            handle.remove()
        assert all(torch.equal(torch.nn.functional.linear(x, w, b), y) for w, x, y, b in used)
        self.zeros.append([int((w == 0).sum()) for w, *_ in used])
        self.seen.append([w.detach().clone() for w, *_ in used])
        masked = {name: state.model.get_parameter(name)[mask == 0] for name, mask in state.masks.items()}
        assert all(torch.equal(w, torch.zeros_like(w)) for w in masked.values())
        return {}


def looked_at(loop):
    look = Look()
    loop.measures.evaluators.append(Component("eval/look", look, Card()))
    return look


def check_zeros(option, loop, look):
    total = sum(w.numel() for w in look.seen[-1])
    if option == "nm":
        for w in look.seen[-1]:
            assert ((w.view(len(w), -1, 4) != 0).sum(-1) <= 1).all()
        assert sum(look.zeros[-1]) >= 0.75 * total
    else:
        assert sum(int(m.sum()) for m in loop.state.masks.values()) == round(0.2 * total)
        assert sum(look.zeros[-1]) >= total - round(0.2 * total)


@every
def test_evaluated_weights_are_exactly_zero(option, digits):
    loop = digits(OPTIONS[option])
    look = looked_at(loop)
    loop.run()
    check_zeros(option, loop, look)


@every
@pytest.mark.parametrize("hook", HOOKS)
def test_and_with_other_weights_in_place(option, hook, digits):
    loop = digits(OPTIONS[option], hooks=HOOKS[hook])
    look = looked_at(loop)
    loop.run()
    check_zeros(option, loop, look)


@every
def test_masks_hold_when_weights_are_replaced(option, digits):
    loop = digits(OPTIONS[option])
    look = looked_at(loop)
    loop.run()
    g = torch.Generator().manual_seed(0)
    loop.state.load_weights({name: torch.randn(w.shape, generator=g) for name, w in loop.state.weights().items()})
    loop.state.model.eval()
    with torch.no_grad():
        look.measure(loop.state, loop.state.data.test)
    check_zeros(option, loop, look)


@every
def test_masked_weights_get_no_gradient(option, digits):
    if option == "nm":
        pytest.skip("its dense weights go on learning")
    loop = digits(OPTIONS[option], duration="40it")
    cut = []

    def masks_of(loop):
        return {name: mask.clone() for name, mask in loop.state.masks.items()}

    def look(loop):
        for name, mask in before.items():
            grad = loop.state.model.get_parameter(name).grad
            assert (grad[mask == 0] == 0).all()
            cut.append(int((mask == 0).sum()))
        before.clear()
        before.update(masks_of(loop))

    before = masks_of(loop)
    loop.run(look)
    assert sum(cut) > 0


@every
def test_resume_in_the_middle_is_the_straight_run(option, digits):
    straight = digits(OPTIONS[option], duration="40it")
    straight.run()

    second = contracts.interrupted(lambda: digits(OPTIONS[option], duration="40it"), 17)
    for name, w in straight.state.weights().items():
        assert torch.equal(w, second.state.weights()[name])
    for name, mask in straight.state.masks.items():
        assert torch.equal(mask, second.state.masks[name])


@pytest.mark.parametrize("option", ["static", "set", "rigl"])
def test_seeds_draw_different_masks_and_one_seed_the_same(option, digits):
    masks = [digits(OPTIONS[option], seed=s).state.masks["1.weight"] for s in (0, 0, 1)]
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


def test_two_of_them_exclude_each_other(digits):
    with pytest.raises(Exception, match="both own 'mask'"):
        digits({"name": "rigl", "static": {"name": "static"}})


def test_convolutions_are_masked_too():
    from runner.components.sparsity._masks import shapes_of

    model = torch.nn.Sequential(torch.nn.Conv2d(4, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.Flatten(), torch.nn.Linear(8, 2))
    assert shapes_of(model) == {"0.weight": (8, 4, 3, 3), "3.weight": (2, 8)}
    assert list(matrices(model)) == ["0.weight", "3.weight"]


@pytest.mark.parametrize("option", OPTIONS)
def test_none_leaves_a_second_network_dense(option, digits):
    with pytest.raises(UserError, match=r"acts on the run's one network, which learner/co_teaching replaces"):
        digits(OPTIONS[option], learner={"name": "co_teaching"})


@pytest.mark.parametrize("learner", ["ins", "emlc"])
def test_copies_of_the_network_have_its_layers(learner, digits):
    """With layers that are changed after the copy a running mean would mix weights with those of another layer."""
    loop = digits(OPTIONS["nm"], learner={"name": learner}, data={"name": "digits", "val": 0.1}, duration="2it")
    loop.run()
    names = {name for name, _ in loop.state.model.named_parameters()}
    copies = [m for thing in loop.components for m in vars(thing.object).values() if isinstance(m, torch.nn.Module)]
    copies = [m for m in copies if len(list(m.parameters())) == len(names)]
    assert copies
    assert all({name for name, _ in m.named_parameters()} == names for m in copies)
