"""Who acts when: the order of a combination that was worked out by hand, and what excludes each other."""

import pytest

from runner.cli import check as command
from runner.config import compose
from runner.core.errors import UserError
from runner.core.events import EVENTS
from runner.report import check


def checked(*names, overrides=()):
    named = [check.find(name) for name in names]
    with compose.composer() as composed:
        config = check.unjudged(composed(compose.rewrite([*check.overrides(named), *overrides])))
    acts = check.acts(check.components(config))
    return {event: [a.component for a in acts if a.event == event] for event in check.TIMES}, acts, check.conflicts(config, named), config


def test_the_times_are_the_events_in_their_order():
    assert [e for e in check.TIMES if e not in ("phases", "compute")] == list(EVENTS)


def test_the_order_is_that_of_a_step():
    turns, acts, conflicts, _ = checked("sam", "lookahead", "rigl", "gradient_noise", "mixup", "joint_optimisation", overrides=["trainer.clip=1.0"])
    assert turns["batch"] == ["with/joint_optimisation", "with/mixup"]
    assert turns["compute"] == ["learner/supervised"]
    assert turns["grads"] == ["sparsity/rigl", "trainer/clip", "with/gradient_noise"]
    assert turns["step"] == ["sparsity/rigl", "with/sam", "with/lookahead"]
    assert "rung perturb of own < perturb" in next(a.why for a in acts if (a.event, a.component) == ("step", "with/sam"))
    assert conflicts == []


def test_weights_are_put_back_in_reverse_and_equal_rungs_are_said():
    turns, acts, conflicts, _ = checked("ema", "lookahead", "mixup", "cutmix")
    assert turns["eval_enter"] == turns["eval_exit"][::-1] == ["with/ema", "with/lookahead"]
    assert [a.why for a in acts if a.event == "batch"] == [
        f"rung mix of draw < select < target < mix < adversarial, as {other}: order is by name" for other in ("with/mixup", "with/cutmix")
    ]
    assert conflicts == ["with/ema and with/lookahead both own 'eval-weights': choose one of them"]


def test_all_conflicts_are_found():
    _, _, conflicts, _ = checked("rigl", "set", "distillation", "forward_correction", "ce", "gce")
    assert sorted(conflicts) == [
        "group 'loss' takes one option: ce and gce exclude each other",
        "learner/distillation and with/forward_correction both own 'phases': choose one of them",
        "sparsity/rigl and sparsity/set both own 'mask': choose one of them",
    ]


def test_what_does_not_fit_the_data():
    assert check.misfits(checked("elr", overrides=["data=diabetes", "loss=mse", "eval=[loss]"])[3]) == [
        "with/elr is for classification; data/diabetes is regression"
    ]
    assert check.misfits(checked("cutout")[3]) == ["with/cutout is for images; data/digits has inputs of shape (64,)"]
    assert check.misfits(checked("cutout", overrides=["data.flat=false"])[3]) == []
    said = "model/mlp takes no token ids, as data/sectioned_notes has; those do: c_gcn, ngrams, pa_lstm, pretrained, text_cnn"
    for data, model, misfit in (("sectioned_notes", "mlp", said), ("digits", "text_cnn", "model/text_cnn is for token ids; data/digits has none")):
        assert check.misfits(checked("elr", overrides=[f"data={data}", f"model={model}"])[3]) == [misfit]
    assert check.misfits(checked("elr", overrides=["data=sectioned_notes", "model=text_cnn"])[3]) == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mixpu", "no component 'mixpu'; did you mean 'mixup'?"),
        ("with/mixpu", "no option 'mixpu' in group 'with'; did you mean 'mixup'?"),
        ("wiht/mixup", "no group 'wiht'; did you mean 'with'?"),
        ("none", "'none' is in several groups; say which: noise/none, sparsity/none, logger/none"),
    ],
)
def test_a_wrong_name_says_the_right_one(name, said):
    with pytest.raises(UserError) as error:
        check.find(name)
    assert str(error.value).startswith(said) or set(said.split(", ")) <= set(str(error.value).split(", "))


def test_a_wrong_key_is_said():
    with pytest.raises(UserError, match=r"unknown key 'with.elr.lamm'; did you mean 'lam'"):
        checked("elr", overrides=["with.elr.lamm=1"])
    with pytest.raises(UserError, match="unknown key 'typo'"):
        checked("elr", overrides=["+typo=1"])


def test_the_command(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("RUNNER_OFFLINE", "1")
    assert command.main(["mixup", "sam", "gce", "loss.q=0.5"]) == 0
    out = capsys.readouterr().out
    assert "no conflicts" in out
    assert "loss/gce acts at no event: the learner calls it in compute" in out
    assert command.main(["rigl", "set"]) == 1
    assert "conflict: sparsity/rigl and sparsity/set both own 'mask'" in capsys.readouterr().out
    assert command.main(["mixup", "data=cifar10", "data.root=nowhere"]) == 0
    assert "whether all fit the data is not known" in capsys.readouterr().out
