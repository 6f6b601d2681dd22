import importlib

import torch
from small import loop, part
from torch import nn

alim = importlib.import_module("runner.components.with.alim")
P = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]])
S = torch.tensor([[False, True, True], [True, True, False]])


def test_normalise_by_hand():
    close = lambda found, wanted: torch.allclose(found, torch.tensor(wanted, dtype=torch.float), atol=1e-6)
    assert close(alim.weigh(P.log(), S, 0.0, False), [[0, 0.6, 0.4], [1 / 3, 2 / 3, 0]])  # PRODEN: rescaled within the set
    assert close(alim.weigh(P.log(), S, 1.0, False), P.tolist())  # the set is ignored
    assert close(alim.weigh(P.log(), S, 0.5, False), [[1 / 3, 0.4, 4 / 15], [2 / 13, 4 / 13, 7 / 13]])
    assert close(alim.weigh(P.log(), S, 0.5, True), [[0, 1, 0], [0, 0, 1]])
    assert close(alim.weigh(P.log(), S, 0.25, True), [[0, 1, 0], [0, 1, 0]])


def run(*others, model=None, **options):
    hook = alim.build(**options)
    made = loop(part(hook, "with/alim", rung={"batch": "target"}), *others, duration="4ep", n=200, batch_size=50, model=model)
    return hook, made


def test_targets_follow_the_networks_predictions_before_each_step():
    g = torch.Generator().manual_seed(3)
    sets = torch.rand(200, 3, generator=g) < 0.4
    sets[torch.arange(200), torch.randint(3, (200,), generator=g)] = True
    wanted, ratios, seen, lams = sets / sets.sum(1, keepdim=True), torch.zeros(200), [], []

    class Watch:
        def batch(self, state, batch):
            p = state.model(batch.x).detach().softmax(-1)
            inside, outside = sets[batch.i].float(), (~sets[batch.i]).float()
            weights = p * (inside + hook.lam * outside)
            wanted[batch.i] = 0.7 * wanted[batch.i] + 0.3 * weights / weights.sum(1, keepdim=True)
            ratios[batch.i] = (p * inside).amax(1) / (p * outside).amax(1)
            seen.append(torch.allclose(batch.t, wanted[batch.i], atol=1e-5))

        def epoch_end(self, state):
            lams.append(hook.lam)

    hook, made = run(part(Watch(), "with/watch", rung={"batch": "mix"}), eta=0.3, warmup="2ep", momentum=0.7, hard=False)
    hook.candidates, made.state.per_sample["alim"] = sets, wanted.clone()
    made.run()
    assert len(seen) == 16
    assert all(seen)
    assert lams[0] == 0  # no set is left during the warm-up
    assert abs(hook.lam - min(1.0, ratios.sort()[0][60].item())) < 1e-5


def test_lambda_lets_the_share_eta_leave_their_sets():
    hook, made = run(eta=0.25, warmup="1ep")
    state, g = made.state, torch.Generator().manual_seed(0)
    p = torch.randn(200, 3, generator=g).mul(2).softmax(-1)
    hook.candidates = torch.nn.functional.one_hot(torch.randint(3, (200,), generator=g), 3).bool()
    state.per_sample["alim/ratio"] = (p * hook.candidates).amax(1) / (p * ~hook.candidates).amax(1)
    state.step = 4
    hook.epoch_end(state)
    chosen = alim.weigh(p.log(), hook.candidates, hook.lam, True).bool()
    assert 0 < hook.lam < 1
    assert (chosen & ~hook.candidates).sum() in (50, 51)  # the sample at the quantile is a tie


def test_the_label_is_the_set_where_there_are_no_candidates_and_full_sets_are_fine():
    hook, made = run(eta=0.2, warmup="0ep", model=nn.Linear(5, 3))
    assert torch.equal(hook.candidates.float().argmax(1), made.state.data.train.y)
    assert (hook.candidates.sum(1) == 1).all()
    hook.candidates = torch.ones(200, 3, dtype=torch.bool)
    assert torch.isfinite(torch.tensor(list(made.run().values()))).all()
