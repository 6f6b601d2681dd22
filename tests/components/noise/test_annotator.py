import torch
from sklearn.linear_model import LogisticRegression

from runner.components.noise.annotator import build
from runner.core.data import Data, Info, Split


def data(n=1200):
    g = torch.Generator().manual_seed(0)
    y = torch.arange(n) % 3
    centres = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
    split = Split(centres[y] + torch.randn(n, 2, generator=g), y)
    return Data(Info("classification", (2,), 3), split, split)


def labelled(seed=1, **options):
    d = data()
    build(**options)(d, torch.Generator().manual_seed(seed))
    return d.train


def test_the_annotators_own_samples_keep_their_labels_and_no_others_are_safe():
    split = labelled(share=0.05)
    order = torch.randperm(1200, generator=torch.Generator().manual_seed(1))
    known = torch.cat([order[split.clean[order] == c][:20] for c in range(3)])
    assert torch.equal(split.y[known], split.clean[known])
    assert (split.y != split.clean).double().mean() > 0.05


def test_labels_are_those_of_logistic_regression_on_the_same_samples():
    split = labelled(share=0.05, steps=3000, lr=0.05)
    order = torch.randperm(1200, generator=torch.Generator().manual_seed(1))
    known = torch.cat([order[split.clean[order] == c][:20] for c in range(3)])
    other = LogisticRegression(C=1e6, max_iter=10000).fit(split.x[known].numpy(), split.clean[known].numpy())
    wanted = torch.tensor(other.predict(split.x.numpy()))
    wanted[known] = split.clean[known]
    assert (split.y == wanted).double().mean() > 0.99


def test_wrong_labels_lie_near_the_borders():
    """For a linear annotator that knows all but a few, errors are among the samples that another classifier finds doubtful too."""
    split = labelled(share=0.5, steps=1000)
    oracle = LogisticRegression().fit(split.x.numpy(), split.clean.numpy()).predict_proba(split.x.numpy()).max(1)
    wrong = (split.y != split.clean).numpy()
    assert oracle[wrong].mean() < oracle[~wrong].mean() - 0.15


def test_the_generator_alone_decides():
    torch.manual_seed(5)
    one = labelled(width=8).y
    torch.manual_seed(6)
    assert torch.equal(one, labelled(width=8).y)
    assert not torch.equal(one, labelled(seed=2, width=8).y)
