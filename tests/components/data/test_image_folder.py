"""image_folder: the loaded path gives the tensors of the resident one, whatever the workers; noise, corruption and resuming work on it."""

import io

import numpy as np
import pytest
import torch

from runner import UserError
from runner.components.data._images import Normalise
from runner.components.data.image_folder import MEAN, STD, build, picture
from runner.components.noise.symmetric import build as symmetric
from runner.core import snapshot
from runner.core.data import LoadedSplit, Split
from runner.execution.assemble import assemble

CLASSES, EACH, SIZE = 3, 6, 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """ROOT/train and ROOT/val of small PNG images: (root, uint8 images of the training split in the order of their paths)."""
    from PIL import Image

    root, draw, made = tmp_path_factory.mktemp("images"), np.random.default_rng(0), []
    for part in ("train", "val"):
        for c in range(CLASSES):
            place = root / part / f"class{c}"
            place.mkdir(parents=True)
            for k in range(EACH):
                image = draw.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
                Image.fromarray(image).save(place / f"{k}.png")
                if part == "train":
                    made.append(image)
    return root, torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2)


def load(folder, workers=0, **options):
    return build(str(folder[0]), size=SIZE, resize=SIZE, workers=workers, **options)


def batches(split, order, seed=5, epoch=0, size=4):
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    return list(split.batches(torch.tensor(order), size, "cpu", generator, epoch))


def test_loaded_and_resident_images_are_the_same_tensors(folder):
    data = load(folder)
    resident = Split(folder[1], torch.arange(CLASSES).repeat_interleave(EACH), None, Normalise(MEAN, STD))
    assert isinstance(data.train, LoadedSplit)
    assert torch.equal(data.train.y, resident.y)
    order = torch.randperm(18, generator=torch.Generator().manual_seed(0)).tolist()
    for one, other in zip(batches(data.train, order, seed=None), batches(resident, order, seed=None), strict=True):
        assert torch.equal(one.x, other.x)
        assert torch.equal(one.y, other.y)
        assert torch.equal(one.i, other.i)
    rows = torch.tensor([17, 2])
    assert torch.equal(data.train.fetch(rows).x, resident.fetch(rows).x)


def test_two_workers_give_the_batches_of_none(folder):
    alone, two = load(folder).train, load(folder, workers=2).train
    for epoch in (0, 1):  # the workers live on into the second
        order = torch.randperm(18, generator=torch.Generator().manual_seed(epoch)).tolist()
        for one, other in zip(batches(alone, order, epoch=epoch), batches(two, order, epoch=epoch), strict=True):
            assert torch.equal(one.x, other.x)
            assert torch.equal(one.i, other.i)


def test_augmentation_hangs_on_seed_epoch_and_index_alone(folder):
    split = load(folder).train

    def of(k, order, **how):
        return next(b.x[b.i == k] for b in batches(split, order, **how) if (b.i == k).any())

    first = of(7, [1, 7, 3])
    torch.manual_seed(123)
    assert torch.equal(first, of(7, [7, 0, 5, 9, 2], size=2))
    assert not torch.equal(first, of(7, [7], epoch=1))
    assert not torch.equal(first, of(7, [7], seed=6))
    assert not torch.equal(first, split.fetch(torch.tensor([7])).x)
    before = torch.get_rng_state()
    batches(split, [7])
    assert torch.equal(before, torch.get_rng_state())


class Unread(torch.utils.data.Dataset):
    def __len__(self):
        return 600

    def __getitem__(self, k):
        raise AssertionError("an input was read")


def test_label_noise_reads_no_input(folder):
    data = load(folder)
    y = torch.arange(600) % CLASSES
    data.train = LoadedSplit(Unread(), y)
    symmetric(rate=0.5)(data, torch.Generator().manual_seed(0))
    assert torch.equal(data.train.clean, y)
    assert abs((data.train.y != y).float().mean() - 0.5) < 0.1


@pytest.mark.parametrize("workers", [0, 2])
def test_input_corruption_is_the_resident_one(folder, workers):
    data = load(folder, workers)
    resident = Split(folder[1], data.train.y, None, Normalise(MEAN, STD))
    change = lambda x, i: x * (1 + i.view(-1, 1, 1, 1)) + 3
    for split in (data.train, resident):
        split.corrupt(change)
    for one, other in zip(batches(data.train, range(18), seed=None), batches(resident, range(18), seed=None), strict=True):
        assert torch.equal(one.x, other.x)


class Halt(Exception):
    pass


KEPT = []  # a loop that is collected as garbage waits long for its workers; at the end of the process they stop at once


def run(folder, workers, stop=None, saved=None):
    tree = {
        "data": {"name": "image_folder", "root": str(folder[0]), "size": SIZE, "resize": SIZE, "crop": 0.5, "workers": workers},
        "model": {"name": "mlp", "width": 8}, "loss": "ce", "learner": "supervised", "optimizer": "sgd", "schedule": "constant",
        "noise": {"name": "symmetric", "rate": 0.3}, "sparsity": "none", "softmax": "softmax", "device": "cpu",
        "trainer": {"name": "standard", "duration": "14it", "batch_size": 4, "eval_every": "3it"},
        "eval": {"accuracy": {"name": "accuracy"}, "memorisation": {"name": "memorisation"}},
    }  # fmt: skip
    rows = []
    loop = assemble(tree, rows.append)
    KEPT.append(loop)
    if saved is not None:
        snapshot.load(loop, saved)

    def halt(loop):
        if loop.state.step == stop:
            raise Halt

    try:
        loop.run(halt)
    except Halt:
        file = io.BytesIO()
        torch.save(snapshot.save(loop), file)
        file.seek(0)
        return rows, torch.load(file, weights_only=True)
    return rows, loop.state.weights()


def test_resuming_inside_an_epoch_is_the_straight_run(folder):
    """18 samples at batch size 4 make 5 steps an epoch; it stops at 7, with evaluations of the training split in between."""
    straight, weights = run(folder, 0)
    first, saved = run(folder, 0, stop=7)
    rest, resumed = run(folder, 2, saved=saved)
    assert straight == first + rest
    assert all(torch.equal(weights[k], resumed[k]) for k in weights)


def test_large_images_are_resized_and_cut(tmp_path):
    from PIL import Image

    for part in ("train", "test", "val"):
        for c in "ab":
            (tmp_path / part / c).mkdir(parents=True)
            Image.new("L", (60, 40), 100).save(tmp_path / part / c / "0.png")
    data = build(str(tmp_path), size=14, workers=0)
    assert sorted(data.splits()) == ["test", "train", "val"]
    seen = data.test.fetch(torch.tensor([0, 1]))
    assert seen.x.shape == (2, 3, 14, 14)
    assert torch.allclose(seen.x[0, :, 0, 0], (100 / 255 - torch.tensor(MEAN)) / torch.tensor(STD), atol=1e-6)
    (tmp_path / "test" / "c").mkdir()
    with pytest.raises(UserError, match=r"looked in|other classes"):
        build(str(tmp_path), size=14, workers=0)
    with pytest.raises(ValueError, match="resize=10 is smaller"):
        build(str(tmp_path), size=14, resize=10)


def test_images_that_are_not_augmented_are_shown_as_test_images_are(folder):
    plain = load(folder, augment=False).train
    assert plain.augment is None
    order = torch.randperm(18, generator=torch.Generator().manual_seed(1)).tolist()
    for batch in batches(plain, order):
        assert torch.equal(batch.x, Normalise(MEAN, STD)(folder[1][batch.i]))


@pytest.fixture
def train_only(folder, tmp_path):
    (tmp_path / "train").symlink_to(folder[0] / "train")
    return tmp_path, folder[1]


def test_a_share_of_each_class_is_the_test(train_only):
    whole = Normalise(MEAN, STD)(train_only[1])
    known = {x.numpy().tobytes(): k for k, x in enumerate(whole)}
    found = {}
    for split in (0, 1):
        data = load(train_only, share=1 / 3, split=split)
        assert sorted(data.splits()) == ["test", "train"]
        found[split] = []
        for part, size in ((data.train, 12), (data.test, 6)):
            assert len(part) == size
            assert part.y.bincount().tolist() == [size // 3] * 3
            rows = [known[x.numpy().tobytes()] for x in part.fetch(torch.arange(size)).x]
            assert part.y.tolist() == [k // EACH for k in rows]
            found[split].append(rows)
        assert sorted(found[split][0] + found[split][1]) == list(range(18))
        assert data.train.augment is not None
        assert data.test.augment is None
    assert found[0] != found[1]
    assert torch.equal(load(train_only, share=1 / 3).test.fetch(torch.arange(6)).x, whole[found[0][1]])


def test_a_share_that_cannot_be_is_said(folder, train_only):
    with pytest.raises(UserError, match=r"data\.share=0\.2 makes a test split of train/, but there is .*val"):
        load(folder, share=0.2)
    with pytest.raises(UserError, match="leaves a split empty"):
        load(train_only, share=0.01)
    with pytest.raises(UserError, match="the test split of the image folder is not on this machine"):
        load(train_only)


def test_a_folder_that_is_not_there_is_said(tmp_path):
    with pytest.raises(UserError, match=r"looked in .*train.*data\.root") as error:
        build(str(tmp_path / "none"))
    assert "\n" not in str(error.value)
    (tmp_path / "train").mkdir()
    (tmp_path / "val").mkdir()
    with pytest.raises(UserError, match="looked in") as error:
        build(str(tmp_path))
    assert "\n" not in str(error.value)


def test_images_of_more_than_eight_bits_are_refused(tmp_path):
    from PIL import Image

    Image.fromarray(np.full((4, 4), 3000, dtype=np.uint16)).save(tmp_path / "deep.png")  # would be white
    with pytest.raises(UserError, match=r"deep.png cannot be read as an image: it has more than 8 bits a channel \(mode I"):
        picture(str(tmp_path / "deep.png"))
