"""bilstm: each output depends on the whole sequence, and is what two LSTMs, one reversed, give."""

import torch

from runner.components.model.bilstm import build
from runner.core.data import Info


def test_two_directions_by_hand():
    torch.manual_seed(0)
    model = build(width=4)(Info("language", (5,), 7), None).eval()
    x = torch.randint(7, (2, 5))
    words, lstm = model.tokens(x), model.lstm
    halves = []
    for suffix, flip in (("", False), ("_reverse", True)):
        w_in, w_own, b_in, b_own = (getattr(lstm, f"{name}_l0{suffix}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        h = c = torch.zeros(2, 4)
        out = []
        for t in reversed(range(5)) if flip else range(5):
            i, f, g, o = (words[:, t] @ w_in.T + b_in + h @ w_own.T + b_own).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            out.append(h)
        halves.append(torch.stack(out[::-1] if flip else out, 1))
    expected = model.out(torch.cat(halves, 2))
    assert torch.allclose(model(x), expected, atol=1e-5)
    last = build(width=4)(Info("language", (5,), 7, predicted=2), None).eval()
    last.load_state_dict(model.state_dict())
    assert torch.allclose(last(x), expected[:, -2:], atol=1e-5)
