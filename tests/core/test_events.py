"""Order by rung, wrappers that nest, masks that hold, labels that stay."""

import pytest
import small
import torch

from runner.core.errors import UserError


class Note:
    """Writes its name into a shared log at every event that it is given."""

    def __init__(self, log, name, *events):
        for event in events:
            setattr(self, event, lambda *a, event=event: log.append((event, name)))


@pytest.mark.parametrize("swap", [False, True])
def test_order_is_by_rung_not_by_list_position(swap):
    log = []
    parts = [
        small.part(Note(log, "mix", "batch"), "with/a", rung={"batch": "mix"}),
        small.part(Note(log, "select", "batch"), "with/z", rung={"batch": "select"}),
        small.part(Note(log, "target", "batch"), "with/m", rung={"batch": "target"}),
    ]
    small.loop(*(parts[::-1] if swap else parts), duration="1it").run()
    assert [name for _, name in log] == ["select", "target", "mix"]


def test_swapped_weights_are_put_back_in_reverse_order():
    log = []
    small.loop(*(small.part(Note(log, n, "eval_enter", "eval_exit"), f"with/{n}") for n in "ab"), duration="1it").run()
    assert log == [("eval_enter", "a"), ("eval_enter", "b"), ("eval_exit", "b"), ("eval_exit", "a")]


def test_layers_are_changed_before_the_network_is_copied():
    log = []
    parts = [small.part(Note(log, "copy", "setup"), "learner/a"), small.part(Note(log, "change", "setup"), "sparsity/z", rung={"setup": "layers"})]
    small.loop(*parts)
    assert [name for _, name in log] == ["change", "copy"]


def test_an_event_with_a_ladder_needs_a_declared_rung():
    with pytest.raises(UserError, match="with/a acts at 'batch' and must declare its rung"):
        small.loop(small.part(Note([], "a", "batch"), "with/a"))


class TwoLooks:
    """Computes the gradients twice and averages them; like SAM without a perturbation."""

    def step(self, state, grads, apply):
        def twice():
            grads()
            first = [p.grad.clone() for p in state.parameters()]
            loss = grads()
            for p, g in zip(state.parameters(), first, strict=True):
                p.grad.add_(g).div_(2)
            return loss

        return twice, apply


class Slow:
    """Lookahead: every second step the weights go half-way back to where they were two steps before."""

    def __init__(self):
        self.slow, self.count = None, 0

    def step(self, state, grads, apply):
        def ahead():
            if self.slow is None:
                self.slow = [p.detach().clone() for p in state.parameters()]
            apply()
            self.count += 1
            if self.count % 2 == 0:
                with torch.no_grad():
                    for s, p in zip(self.slow, state.parameters(), strict=True):
                        s.lerp_(p, 0.5)
                        p.copy_(s)

        return grads, ahead


def test_step_wrappers_nest():
    looks = lambda: small.part(TwoLooks(), "with/looks", rung={"step": "perturb"})
    slow = lambda: small.part(Slow(), "with/slow", rung={"step": "average"})
    assert torch.allclose(small.trained(looks()), small.trained(), atol=1e-7), "the mean of twice the same gradient is the gradient"
    assert torch.allclose(small.trained(looks(), slow()), small.trained(slow()), atol=1e-7)
    assert not torch.allclose(small.trained(slow()), small.trained(), atol=1e-3)
    calls = []
    counted = small.loop(looks(), small.part(TwoLooks(), "with/more", rung={"step": "perturb"}), duration="1it")
    counted.state.model.register_forward_hook(lambda *_: calls.append(counted.state.model.training))
    counted.run()
    assert sum(calls) == 4, "two wrappers that look twice look four times"


def test_replay_tells_a_second_look():
    class Watch:
        def __init__(self):
            self.seen = []

        def penalty(self, state, batch):
            self.seen.append(state.replay)
            return torch.zeros(())

    watch = Watch()
    small.loop(small.part(TwoLooks(), "with/looks", rung={"step": "perturb"}), small.part(watch), duration="2it").run()
    assert watch.seen == [False, True, False, True]


def test_a_learner_may_replace_the_step_with_its_own_optimizers():
    class Alternating:
        """Updates the first layer on even and the last on odd steps, each with its own optimizer."""

        def setup(self, state):
            self.own = [state.make_optimizer(state.model[0].parameters()), state.make_optimizer(state.model[3].parameters())]

        def compute(self, state, batch):
            batch.z = state.model(batch.x)
            return state.loss(batch.z, batch.t)

        def step(self, state, grads, apply):
            return grads, lambda: self.own[state.step % 2].step()

    made = small.loop(learner=small.part(Alternating(), "learner/alternating", rung={"step": "own"}), schedule=lambda clock: lambda step: 0.5)
    assert made.state.optimizer is None, "every parameter has an optimizer already"
    assert len(made.state.optimizers) == 2
    first = [made.state.model[k].weight.detach().clone() for k in (0, 3)]
    moved = []
    made.run(lambda loop: moved.append([not torch.equal(loop.state.model[k].weight, w) for k, w in zip((0, 3), first, strict=True)]))
    assert moved[:2] == [[True, False], [True, True]]
    assert all(o.param_groups[0]["lr"] == pytest.approx(0.05) for o in made.state.optimizers), "the schedule drives them"


class HalfMask:
    def setup(self, state):
        w = state.model[0].weight
        state.masks["0.weight"] = (torch.arange(w.numel()).view_as(w) % 2 == 0).float()


def test_masks_hold_whatever_changes_the_weights():
    class Swap:
        """Evaluates other weights, all ones."""

        def eval_enter(self, state):
            self.kept = state.weights()
            state.load_weights({k: torch.ones_like(v) for k, v in self.kept.items()})
            self.seen = state.model[0].weight.detach().clone()

        def eval_exit(self, state):
            state.load_weights(self.kept)

        def step_end(self, state):
            with torch.no_grad():
                state.model[0].weight.add_(0.01)

    swap = Swap()
    made = small.loop(small.part(HalfMask(), "sparsity/half", owns=("mask",)), small.part(swap, rung={"step_end": "average"}))
    zero = made.state.masks["0.weight"] == 0
    made.run(lambda loop: (_ := loop.state.model[0].weight[zero].abs().sum().item()) and pytest.fail("a masked weight moved"))
    assert swap.seen[zero].abs().sum() == 0
    assert (swap.seen[~zero] == 1).all()


def test_evaluation_does_not_change_training():
    class Draws:
        splits = ("test",)

        def measure(self, state, split):
            return {"x": torch.rand(3).sum()}

    often = small.trained(eval_every="1it", dropout=0.3, evaluators=[Draws()])
    assert torch.equal(often, small.trained(eval_every="2ep", dropout=0.3))


def test_last_and_best_are_kept_apart():
    class Series:
        splits = ("test",)
        values = iter([1.0, 3.0, 2.0])

        def measure(self, state, split):
            return {"score": next(self.values)}

    made = small.loop(duration="3ep")
    made.measures.evaluators = [small.part(Series(), "eval/series", better={"score": "max"})]
    assert made.run() == {"test/score_last": 2.0, "test/score_best": 3.0}


def test_unknown_split_is_said():
    class Val(small.Error):
        splits = ("val",)

    with pytest.raises(UserError, match="'val', which this data has not: train, test"):
        small.loop(evaluators=[Val()])
