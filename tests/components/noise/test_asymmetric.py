import pytest
import torch

from runner import UserError
from runner.components.noise.asymmetric import build, goals
from runner.core.data import Data, Info, Split

# the superclasses of CIFAR-100 as its home page lists them; fine classes are numbered in alphabetical order
SUPERCLASSES = """
beaver dolphin otter seal whale | aquarium_fish flatfish ray shark trout | orchid poppy rose sunflower tulip | bottle bowl can cup plate
apple mushroom orange pear sweet_pepper | clock keyboard lamp telephone television | bed chair couch table wardrobe
bee beetle butterfly caterpillar cockroach | bear leopard lion tiger wolf | bridge castle house road skyscraper
cloud forest mountain plain sea | camel cattle chimpanzee elephant kangaroo | fox porcupine possum raccoon skunk
crab lobster snail spider worm | baby boy girl man woman | crocodile dinosaur lizard snake turtle | hamster mouse rabbit shrew squirrel
maple_tree oak_tree palm_tree pine_tree willow_tree | bicycle bus motorcycle pickup_truck train | lawn_mower rocket streetcar tank tractor
"""


def data(classes, each=2000):
    y = torch.arange(classes).repeat_interleave(each)
    split = Split(torch.zeros(len(y), 1), y)
    return Data(Info("classification", (1,), classes), split, split)


def frequencies(d):
    """The share of each noisy label (columns) among the samples of each clean class (rows)."""
    c = d.info.outputs
    counts = torch.bincount(d.train.clean * c + d.train.y, minlength=c * c).view(c, c).double()
    return counts / counts.sum(1, keepdim=True)


def test_cifar10_flips_between_look_alikes():
    d = data(10)
    build(rate=0.4)(d, torch.Generator().manual_seed(0))
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    expected = torch.eye(10, dtype=torch.double)
    for wrong in ("truck automobile", "bird airplane", "cat dog", "dog cat", "deer horse"):
        a, b = (names.index(n) for n in wrong.split())
        expected[a, a], expected[a, b] = 0.6, 0.4
    found = frequencies(d)
    assert torch.equal(found == 0, expected == 0)
    assert (found - expected).abs().max() < 4 * (0.24 / 2000) ** 0.5  # four standard deviations of a binomial share


def test_cifar100_flips_go_once_around_each_superclass():
    groups = [g.split() for line in SUPERCLASSES.strip().splitlines() for g in line.split("|")]
    number = {name: k for k, name in enumerate(sorted(n for g in groups for n in g if n != "keyboard"))}
    number = {n: k + (k >= 39) for n, k in number.items()} | {"keyboard": 39}  # "computer_keyboard" stands where "keyboard" would
    assert len(groups) == 20
    goal = goals("auto", 100)
    for group in groups:
        members = sorted(number[n] for n in group)
        assert [goal[m] for m in members] == members[1:] + members[:1]


def test_next_class_otherwise_and_determinism():
    assert goals("auto", 4) == [1, 2, 3, 0]
    one, other = data(4, 50), data(4, 50)
    for d in (one, other):
        build(rate=0.5)(d, torch.Generator().manual_seed(3))
    assert torch.equal(one.train.y, other.train.y)
    assert torch.equal(one.train.clean, data(4, 50).train.y)


def test_a_map_for_other_data_is_refused():
    with pytest.raises(UserError, match="for 10 classes; the data has 4"):
        build(map="cifar10")(data(4, 5), torch.Generator())
