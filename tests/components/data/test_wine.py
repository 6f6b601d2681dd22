"""wine: scikit-learn's table, standardised by the training rows, the same share of each class held out."""

from sklearn.datasets import load_wine

from runner.components.data.wine import build


def test_it_is_the_table(same_table):
    x, y = load_wine(return_X_y=True)
    data = build(val=0.2)
    same_table(data, x, y)
    assert data.info.outputs == len(set(y))


def test_the_test_split_has_the_share_of_each_class():
    data, y = build(test=0.3), load_wine().target
    for c in set(y):
        assert abs(int((data.test.y == c).sum()) - 0.3 * (y == c).sum()) <= 0.5
    assert build(train_size=12).train.y.bincount().unique().tolist() == [12 // len(set(y))]
