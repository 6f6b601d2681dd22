"""gpt: no position sees later ones; sizes of GPT-2; tied weights; only the positions that are asked for."""

import pytest
import torch

from runner.components.model.gpt import build
from runner.core.data import Info

softmax = lambda: lambda scores: scores.softmax(-1)
INFO = Info("language", (6,), 11)


def test_weights_of_gpt_2(weights):
    make = lambda info, _: build(768, 12, 12, tied=True)(info, softmax)
    assert weights(make, (1024,), 50257) == 124439808  # transformers' GPT2LMHeadModel("gpt2").num_parameters()


def test_later_tokens_change_nothing_earlier():
    torch.manual_seed(0)
    model = build(16, 2, 4)(INFO, softmax)
    x = torch.randint(11, (3, 6))
    other = x.clone()
    other[:, 4:] = (other[:, 4:] + 1) % 11
    a, b = model(x), model(other)
    assert a.shape == (3, 6, 11)
    assert torch.allclose(a[:, :4], b[:, :4], atol=1e-6)
    assert not torch.allclose(a[:, 4], b[:, 4], atol=1e-4)
    x.fill_(3)
    assert not torch.allclose(model(x)[:, 0], model(x)[:, 1], atol=1e-4)  # positions differ


def test_the_last_positions_alone():
    torch.manual_seed(0)
    whole = build(16, 1, 2)(INFO, softmax)
    last = build(16, 1, 2)(Info("language", (6,), 11, predicted=2), softmax)
    last.load_state_dict(whole.state_dict())
    x = torch.randint(11, (3, 6))
    assert torch.allclose(last(x), whole(x)[:, -2:], atol=1e-6)


def test_tied_output():
    tied = build(16, 1, 2, tied=True)(INFO, softmax)
    x = torch.tensor([[1, 2, 3]])
    before = tied(x)
    tied.tokens.weight.data[7] *= 2  # token 7 is not in x: only its logit changes
    after = tied(x)
    assert torch.allclose(after[..., 7], 2 * before[..., 7], atol=1e-6)
    assert torch.equal(after[..., :7], before[..., :7])


def test_it_starts_as_gpt_2():
    model = build(128, 8, 4)(INFO, softmax)
    assert model.layers[0].attention.qkv.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert model.layers[0].mlp[2].weight.std().item() == pytest.approx(0.02 / 4, rel=0.02)  # 16 writes into the residual stream
    assert not model.layers[0].mlp[0].bias.any()


def test_it_learns_addition_that_it_has_seen():
    from runner.components.data.modular import build as modular

    torch.manual_seed(0)
    data = modular(modulus=5, share=0.9)
    model = build(32, 1, 4)(data.info, softmax)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(300):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(data.train.x).flatten(0, 1), data.train.y.flatten())
        loss.backward()
        optimizer.step()
    assert (model(data.train.x).argmax(-1) == data.train.y).all()
