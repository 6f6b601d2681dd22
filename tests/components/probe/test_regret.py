import pytest
import torch
from sklearn.linear_model import LogisticRegression
from small import loop

from runner.components.probe.regret import build, linear, plausible, posterior


def test_posterior_by_bayes_rule():
    y = torch.tensor([0] * 44 + [1] * 56)  # with 20 % flips: prior (0.4, 0.6), since 0.4 * 0.8 + 0.6 * 0.2 = 0.44
    found = posterior(y, 0.2, 2)
    assert found[0, 1].item() == pytest.approx(0.6 * 0.2 / 0.44)
    assert found[1, 0].item() == pytest.approx(0.4 * 0.2 / 0.56)
    assert torch.allclose(posterior(y, 0.0, 2), torch.eye(2).double())


def test_plausible_labels_have_the_expected_share_of_changes():
    g = torch.Generator().manual_seed(0)
    y = torch.randint(4, (4000,), generator=g)
    drawn = plausible(y, 0.3, 4, 8, 0.1, g)
    assert drawn.shape == (8, 4000)
    assert ((drawn != y).double().mean(1) - 0.3).abs().max() <= 0.03 + 0.01
    assert not torch.equal(drawn[0], drawn[1])


def test_the_models_are_logistic_regressions():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(300, 4, generator=g)
    y = torch.stack([(x @ torch.randn(4, 3, generator=g) + torch.randn(300, 3, generator=g)).argmax(-1) for _ in range(3)])
    for guess, labels in zip(linear(x, y, 3, 800), y, strict=True):
        other = LogisticRegression(C=1 / (2 * 1e-3 * 300)).fit(x.numpy(), labels.numpy()).predict(x.numpy())
        assert (guess.numpy() == other).mean() > 0.98


def test_regret_by_hand():
    made = loop(n=4)
    split, state = made.state.data.train, made.state
    split.clean, split.y = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 0])
    z = torch.tensor([[5.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.5, 0.0, 0.0], [4.0, 0.0, 0.0]])  # all are predicted to be class 0
    batch = split.fetch(torch.arange(4))
    batch.z, state.predictions = z, lambda s: [batch]
    found = {k: float(v) for k, v in build(by="confidence", abstain=0.5).measure(state, split).items()}
    # mistakes: samples 2 and 3; by the labels: 1 and 2; regret: 1 (no mistake) and 3 (hidden); the two most confident are 0 and 3
    assert found == {"risk": 50.0, "regret": 50.0, "risk_kept": 50.0, "regret_kept": 50.0}
    found = build(abstain=0.25, models=5, steps=5).measure(state, split)
    assert found["risk"] == 50.0
    split.clean = None
    assert build().measure(state, split) == {}
