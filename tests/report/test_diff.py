"""Fingerprints that see one bit, and where two records part, against rows made by hand."""

import json

import pytest
import small
import torch
from torch import nn

from runner.cli import diff as command
from runner.config.bind import bind
from runner.execution.trace import fingerprint
from runner.report.diff import parting


def network(*layers):
    return small.loop(model=nn.Sequential(*layers) if layers else None)


def test_equal_twins_have_equal_fingerprints_and_training_changes_them():
    one, other = network(), network()
    before = fingerprint(one)
    assert fingerprint(other) == before
    one.run()
    other.run()
    assert fingerprint(one) == fingerprint(other) != before


def bits(tensor):
    return tensor.detach().view(-1).view(torch.int32)


@pytest.mark.parametrize("bit", [0, 22, 31])
def test_one_flipped_bit_of_any_parameter_shows(bit):
    made = network()
    before = fingerprint(made)
    for parameter in made.state.model.parameters():
        flip = torch.tensor(1 << bit if bit < 31 else -(2**31), dtype=torch.int32, device=small.DEVICE)
        bits(parameter)[-1] ^= flip
        assert fingerprint(made) != before
        bits(parameter)[-1] ^= flip
    assert fingerprint(made) == before


def test_order_within_a_tensor_shape_and_buffers_show():
    made = network(nn.Linear(5, 3))
    weight, before = made.state.model[0].weight, fingerprint(made)
    with torch.no_grad():
        weight.copy_(weight.flip(0))
    assert fingerprint(made) != before
    zeros = [network(nn.Linear(5, 6, bias=False), nn.Linear(6, 3, bias=False)), network(nn.Linear(5, 3, bias=False), nn.Linear(3, 8, bias=False))]
    for loop in zeros:
        for parameter in loop.state.model.parameters():
            nn.init.zeros_(parameter)
    assert len({fingerprint(loop) for loop in zeros}) == 2
    normed = network(nn.Linear(5, 3), nn.BatchNorm1d(3))
    before = fingerprint(normed)
    normed.state.model[1].num_batches_tracked += 1
    assert fingerprint(normed) != before


def test_networks_of_components_and_the_last_loss_show():
    class Peer(small.Plain):
        def __init__(self):
            self.peer = nn.Linear(2, 2)

    peer = Peer()
    made = small.loop(learner=small.part(peer, "learner/peer"))
    seen = {fingerprint(made)}
    with torch.no_grad():
        peer.peer.bias[0] += 1
    seen.add(fingerprint(made))
    made.state.metrics["train/loss"] = 0.5
    assert len(seen | {fingerprint(made)}) == 3


def rows(*losses, **extra):
    return [{"step": 10 * k, "epoch": k, "train/loss": loss, **{name: v[k - 1] for name, v in extra.items()}} for k, loss in enumerate(losses, 1)]


def test_parting():
    same = parting(rows(3.0, 2.0), rows(3.0, 2.0))
    assert (same.before, same.step, same.same) == (20, None, True)
    apart = parting(rows(3.0, 2.0, 1.0), rows(3.0, 2.5, 1.0))
    assert (apart.before, apart.step, apart.values, apart.same) == (10, 20, {"train/loss": (2.0, 2.5)}, False)
    shorter = parting(rows(3.0), rows(3.0, 2.0))
    assert (shorter.before, shorter.step, shorter.only, shorter.same) == (10, None, ([], [20]), False)


def test_the_hash_decides_where_both_have_it():
    hidden = parting(rows(3.0, 2.0, hash="ab"), rows(3.0, 2.0, hash="ax"))
    assert (hidden.before, hidden.step, hidden.values) == (10, 20, {"hash": ("b", "x")})
    assert parting(rows(3.0, noise=[1], hash="a"), rows(3.0, noise=[2], hash="a")).step is None
    assert parting(rows(3.0, hash="a"), rows(3.0)).step is None


def record(store, name, written, acc, **changes):
    folder = store / name
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(bind({"data": "digits", "trainer": "standard", **changes}).plain()))
    (folder / "environment.json").write_text(json.dumps({"torch": "2.0", "code": "c", "data": "d", "commit": None}))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in written))
    (folder / "done.json").write_text(json.dumps({"summary": {"test/acc_last": acc}, "seconds": 1.0, "finished": 0.0}))


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "160")
    record(tmp_path, "aaaaaaaaaaaa", rows(3.0, 2.0), 90.0, loss="ce")
    record(tmp_path, "aaabbbbbbbbb", rows(3.0, 2.5), 91.5, loss="gce", threads=2)
    record(tmp_path, "cccccccccccc", rows(3.0, 2.0), 90.0, loss="ce", threads=2)
    store = f"store={tmp_path}"
    assert command.main([store, "aaaa", "aaab"]) == 1
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "loss ce gce" in lines
    assert "threads 1 2 does not change the result" in lines
    assert "test/acc_last 90 91.5 +1.5" in lines
    assert "steps equal up to step 10, different at step 20" in lines
    assert "train/loss 2 2.5 +0.5" in lines
    assert not any(line.startswith("loss.q") for line in lines), "the default of an option that one of them has"
    assert command.main([store, "aaaa", str(tmp_path / "cccccccccccc")]) == 0
    assert "equal in all 2 logged steps" in capsys.readouterr().out


def test_twins_that_measured_nan_are_equal(tmp_path, capsys):
    for name in ("aaaaaaaaaaaa", "bbbbbbbbbbbb"):
        record(tmp_path, name, rows(3.0), float("nan"), loss="ce")
    record(tmp_path, "cccccccccccc", rows(3.0), 90.0, loss="ce")
    assert command.main([f"store={tmp_path}", "aaa", "bbb"]) == 0
    assert command.main([f"store={tmp_path}", "aaa", "ccc"]) == 1


def test_what_names_no_run(runner, tmp_path):
    record(tmp_path / "runs", "aaaaaaaaaaaa", rows(3.0), 1.0)
    record(tmp_path / "runs", "aaabbbbbbbbb", rows(3.0), 1.0)
    for arguments, said in ((["aaaa"], "diff takes two runs"), (["aaa", "aaaa"], "'aaa' is the beginning of 2 runs"), (["aaaa", "f"], "no run 'f'")):
        done = runner("diff", *arguments)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
        assert said in done.stderr
