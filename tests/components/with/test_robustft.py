"""Votes of neighbours against scikit-learn, the pipeline on points whose outcome is plain, and its labels on digits."""

import importlib

import numpy as np
import pytest
import tiny_transformer
import torch
from sklearn.neighbors import KNeighborsClassifier
from small import loop, part

from runner import UserError, contracts
from runner.config.bind import bind
from runner.config.compose import composer
from runner.execution.assemble import assemble

robustft = importlib.import_module("runner.components.with.robustft")
RUNG = {"batch": "target"}


def test_votes_against_scikit_learn():
    g = torch.Generator().manual_seed(0)
    x, pool, y = torch.randn(30, 3, generator=g), torch.randn(50, 3, generator=g), torch.randint(4, (50,), generator=g)
    theirs = KNeighborsClassifier(7).fit(pool.numpy(), y.numpy()).predict_proba(x.numpy())
    assert np.allclose(robustft.neighbours(x, pool, y, 7, 4).numpy(), theirs, atol=1e-6)
    others = torch.arange(50) != 9
    alone = robustft.neighbours(pool[9:10], pool[others], y[others], 7, 4)
    assert torch.allclose(robustft.neighbours(pool, pool, y, 7, 4, same=True)[9:10], alone)


def test_held_out_predictions_do_not_depend_on_the_own_label():
    g = torch.Generator().manual_seed(1)
    x, y = torch.randn(40, 3, generator=g), torch.randint(3, (40,), generator=g)
    one = robustft.held_out(x, y, 4, 3, 0.1, torch.Generator().manual_seed(5))
    z = y.clone()
    z[7] = (z[7] + 1) % 3
    other = robustft.held_out(x, z, 4, 3, 0.1, torch.Generator().manual_seed(5))
    assert torch.allclose(one[7], other[7], atol=1e-4)
    assert (one - other).abs().max() > 1e-2
    assert torch.allclose(one.sum(1), torch.ones(40), atol=1e-5)


def blobs(model=None, **options):
    """Three tight, far blobs of 30; every fifth label is wrong."""
    made = loop(part(robustft.build(neighbours=15, decay=0.1, **options), "with/robustft", rung=RUNG), n=90, model=model)
    state, hook = made.state, made.components[-1].object
    truth = torch.arange(90) % 3
    x = 0.1 * torch.randn(90, 5, generator=torch.Generator().manual_seed(2))
    x[torch.arange(90), truth] += 5
    wrong = torch.arange(90) % 5 == 0
    state.data.train.x, state.data.train.y = x, torch.where(wrong, (truth + 1) % 3, truth)
    hook.setup(state)
    return state, hook, truth, wrong


def test_wrong_labels_are_found_and_replaced():
    state, hook, truth, wrong = blobs(quantile=1.0)
    assert torch.equal(state.per_sample["selected"], (~wrong).float())
    assert torch.equal(state.per_sample["robustft"], truth)
    assert state.per_sample["robustft/kept"].all()
    batch = hook.batch(state, state.data.train.fetch(torch.arange(8)))
    assert torch.equal(batch.t, truth[:8])
    assert torch.equal(batch.y, state.data.train.y[:8])


def test_nothing_relabelled_is_used_at_quantile_zero():
    state, hook, _, wrong = blobs(quantile=0.0)
    assert torch.equal(state.per_sample["robustft/kept"], ~wrong)
    assert hook.batch(state, state.data.train.fetch(torch.arange(8))).i.tolist() == [k for k in range(8) if k % 5]
    lost = hook.batch(state, state.data.train.fetch(torch.tensor([0, 5])))  # a batch of which nothing is left has no weight
    assert lost.w.tolist() == [0.0]
    weighed = state.data.train.fetch(torch.arange(8))
    weighed.w = torch.arange(8.0)  # what another has made of them stays
    assert hook.batch(state, weighed).w.tolist() == [k for k in range(8) if k % 5]


def test_the_features_of_a_network_that_passes_the_inputs_on_are_the_inputs():
    body = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.BatchNorm1d(5, eps=1e-12, affine=False))  # does nothing, unless it is in training
    (state, hook, *_), (other, *_) = blobs(torch.nn.Sequential(body, torch.nn.Linear(5, 3)), space="features"), blobs()
    assert torch.equal(hook.places(state), state.data.train.x)
    assert torch.equal(body[1].running_mean, torch.zeros(5, device=body[1].running_mean.device))
    assert all(module.training for module in state.model.modules())
    assert state.per_sample.keys() == other.per_sample.keys() >= {"robustft", "robustft/kept", "selected"}
    assert all(torch.equal(table, other.per_sample[name]) for name, table in state.per_sample.items())


def test_features_are_what_the_last_linear_layer_is_given():
    body = torch.nn.Linear(5, 2, bias=False)
    torch.nn.init.zeros_(body.weight)
    state, hook, *_ = blobs(torch.nn.Sequential(body, torch.nn.Linear(2, 3)), space="features")
    assert torch.equal(hook.places(state), torch.zeros(90, 2, device=body.weight.device))
    body.weight.data.copy_(torch.eye(5)[:2])
    assert torch.equal(hook.places(state), state.data.train.x[:, :2])


def test_on_digits_sure_relabels_are_right_more_often():
    tree = contracts.config("with", "robustft", {"quantile": 0.5}) | {"noise": {"name": "symmetric", "rate": 0.6}}
    state = contracts.start(tree).state
    train = state.data.train
    kept, clean = state.per_sample["robustft/kept"], state.per_sample["selected"] > 0
    right = state.per_sample["robustft"] == train.clean
    sure, unsure = right[kept & ~clean].float().mean(), right[~kept].float().mean()
    assert sure > unsure + 0.05
    assert sure > (train.y == train.clean)[~clean].float().mean() + 0.3
    assert right[clean].float().mean() > 0.95


def test_the_recipe_at_the_scale_of_the_paper_on_a_small_decoder(tmp_path, monkeypatch):
    """Two steps; the experts see the network as it starts, so texts of one class lie together."""
    pytest.importorskip("transformers", reason="transformers is not installed")
    datasets = importlib.import_module("datasets")
    monkeypatch.setenv("RUNNER_OFFLINE", "1")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    folder = tiny_transformer.write(tmp_path / "model", "Llama")
    rows = 10 * ['"the film is\ndull",negative\n', '"the cat\nsat",neutral\n', '"a very\ngood plot",positive\n']
    (tmp_path / "sentences").mkdir()
    for split in ("train", "test"):
        (tmp_path / "sentences" / f"{split}.csv").write_text("question,gt\n" + "".join(rows))
    chosen = [
        "+recipe=noise/robustft",
        "scale=paper",
        f"data.path={tmp_path / 'sentences'}",
        f"data.tokenizer={folder}",
        "data.length=24",
        "trainer.duration=2it",
    ]
    with composer() as composed:
        with pytest.raises(UserError, match=r"works on numbers, which token ids are not: set with\.robustft\.space=features"):
            assemble(bind(composed([*chosen, "with.robustft.space=inputs"])))
        loop = assemble(bind(composed([*chosen, "noise.rate=0.1"])), lambda row: None)
    state = loop.state
    kept = state.per_sample["robustft/kept"]
    assert kept.float().mean() > 0.5
    assert (state.per_sample["robustft"] == state.data.train.clean)[kept].float().mean() > 0.9
    assert {p.shape[-1 if n.endswith("up.weight") else 0] for n, p in state.model.named_parameters() if ".lora." in n} == {8}
    assert "test/acc_last" in loop.run()
    assert state.step == 2
