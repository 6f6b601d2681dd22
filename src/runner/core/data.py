"""Samples and how a run gets at them. A split is resident (tensors on the device) or loaded (worker processes); users see no difference."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset, default_collate

from runner.core.rng import derive


@dataclass(frozen=True)
class Info:
    """What a model must know of the data.

    Attributes:
        task: `classification`, `regression`, `language`, `segmentation`, `detection` (what regions show) or `boxes` (what is where).
        shape: of one input without the batch: (features,), (channels, height, width) or (length,).
        outputs: classes, regression outputs, or size of the vocabulary.
        predicted: positions at the end of a sequence that have labels (n, predicted); None for all.
        vocabulary: ids that an input of token ids may hold, from 0; None for other inputs, and for `language`, where it is `outputs`.
        regions: boxes (x0, y0, x1, y1) in pixels of an image that have labels (n, regions); of which class 0 says that nothing is there.
    """

    task: str
    shape: tuple[int, ...]
    outputs: int
    predicted: int | None = None
    vocabulary: int | None = None
    regions: tuple[tuple[float, float, float, float], ...] = ()


@dataclass(slots=True)
class Batch:
    """B samples. Metrics read `y`, methods write `t`; nobody writes `y`.

    Attributes:
        x: inputs (B, ...).
        y: labels as the training set has them (B, ...).
        i: index of each sample in its split (B,).
        t: the training target, class indices like `y` or probabilities (B, ..., C).
        w: weight of each sample (B,), or None for equal ones.
        z: the model's outputs, once the learner has computed them.
        extra: further tensors of B rows that a method passes on to itself.
    """

    x: Tensor
    y: Tensor
    i: Tensor
    t: Tensor | None = None
    w: Tensor | None = None
    z: Tensor | None = None
    extra: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self):
        if self.t is None:
            self.t = self.y

    def take(self, rows) -> "Batch":
        """The batch of some of its rows (indices, mask or slice)."""
        pick = lambda v: None if v is None else v[rows]
        return Batch(pick(self.x), pick(self.y), pick(self.i), pick(self.t), pick(self.w), extra={k: v[rows] for k, v in self.extra.items()})

    def chunk(self, parts: int) -> "list[Batch]":
        """The batch in at most `parts` pieces of nearly equal size."""
        n = len(self.i)
        edges = [n * k // parts for k in range(parts + 1)]
        return [self.take(slice(a, b)) for a, b in itertools.pairwise(edges) if b > a]


class Split:
    """A resident split: all samples are tensors on the run's device.

    Args:
        x: inputs (n, ...); uint8 images are scaled to [0, 1] and normalised by `transform` at every fetch.
        y: labels (n, ...).
        augment: training-time change of a batch of inputs, `(x, generator) -> x`.
        transform: change of every batch of inputs, `x -> x`, before `augment`.

    Attributes:
        clean: the labels before noise was injected, for measurement only; None where there is no noise.
        side: name -> tensor of n rows: what else is known of each sample, as candidate labels or the answers of several annotators.
    """

    def __init__(self, x: Tensor, y: Tensor, augment: Callable | None = None, transform: Callable | None = None):
        self.x, self.y, self.augment, self.transform = x, y, augment, transform
        self.clean: Tensor | None = None
        self.side: dict[str, Tensor] = {}

    def __len__(self) -> int:
        return len(self.y)

    def to(self, device) -> "Split":
        self.x, self.y = self.x.to(device), self.y.to(device)
        self.clean = None if self.clean is None else self.clean.to(device)
        self.side = {name: value.to(device) for name, value in self.side.items()}
        return self

    def relabel(self, y: Tensor) -> None:
        """Replace the labels by noisy ones; the first labels stay as `clean`."""
        if self.clean is None:
            self.clean = self.y
        self.y = y.to(self.y)

    def resample(self, rows: Tensor) -> None:
        """Hold the samples with these indices (m,) instead, in this order, some more than once if they are."""
        rows = rows.to(self.y.device)
        self._resample_inputs(rows)
        self.y, self.clean = self.y[rows], None if self.clean is None else self.clean[rows]
        self.side = {name: value[rows] for name, value in self.side.items()}

    def _resample_inputs(self, rows: Tensor) -> None:
        self.x = self.x[rows]

    def corrupt(self, change: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Replace the inputs by `change(inputs (n, ...) as the model sees them, indices (n,))`, once and for all."""
        rows = torch.arange(len(self), device=self.y.device)
        self.x, self.transform = change(self._inputs(rows), rows), None

    def close(self) -> None:
        """Let go of what a finished run need not hold."""

    def _inputs(self, rows: Tensor) -> Tensor:
        x = self.x.index_select(0, rows)
        return x if self.transform is None else self.transform(x)

    def fetch(self, rows: Tensor) -> Batch:
        """The samples with these indices, not augmented."""
        rows = rows.to(self.y.device)
        return Batch(self._inputs(rows), self.y.index_select(0, rows), rows)

    def batches(self, order: Tensor, size: int, device, generator: torch.Generator | None = None, epoch: int = 0) -> Iterator[Batch]:
        """The samples in this order, `size` at a time; augmented if a generator is given."""
        for rows in order.to(self.y.device).split(size):
            batch = self.fetch(rows)
            if self.augment is not None and generator is not None:
                batch.x = self.augment(batch.x, generator)
            yield batch


class LoadedSplit(Split):
    """A split too large for the device: worker processes read and augment, pinned memory carries over.

    Args:
        dataset: `dataset[k] -> (input, label)`; only the input is used.
        y: labels of all samples (n,), so that noise can be injected without reading inputs.
        augment: training-time change of one input, `x -> x`, random through torch's global stream.
        transform: change of one input outside training.
        workers: processes.
    """

    def __init__(self, dataset: Dataset, y: Tensor, augment: Callable | None = None, transform: Callable | None = None, workers: int = 0):
        super().__init__(torch.empty(0), y, augment, transform)
        self.dataset, self.workers, self._loader = dataset, workers, None
        self.changes: list = []  # what changes the inputs, and which index each sample had when it came (n,); None for the same

    def _resample_inputs(self, rows) -> None:
        self.dataset = Subset(self.dataset, rows.tolist())
        self.changes = [(change, rows.cpu() if before is None else before[rows.cpu()]) for change, before in self.changes]

    def corrupt(self, change) -> None:
        """As for resident data, but applied to each input as it is read: `change` must depend on the index alone."""
        self.changes.append((change, None))

    def close(self) -> None:
        """Stop the worker processes."""
        self._loader = None

    def fetch(self, rows: Tensor) -> Batch:
        view = _View(self)
        x, i = default_collate([view[(int(k), 0, None)] for k in rows])
        return Batch(x.to(self.y.device), self.y[rows.to(self.y.device)], i.to(self.y.device))

    def batches(self, order, size, device, generator=None, epoch=0) -> Iterator[Batch]:
        seed = None if generator is None else generator.initial_seed()
        work = [[(int(k), epoch, seed) for k in rows] for rows in order.split(size)]
        if self._loader is None:
            pinned = torch.device(device).type == "cuda"
            self._loader = DataLoader(
                _View(self), batch_sampler=_Work(), num_workers=self.workers, pin_memory=pinned, persistent_workers=self.workers > 0,
                generator=torch.Generator(),  # else it draws from torch's own stream
            )  # fmt: skip
        self._loader.batch_sampler.work = work
        for x, i in self._loader:
            i = i.to(device, non_blocking=True)
            yield Batch(x.to(device, non_blocking=True), self.y.index_select(0, i), i)


class _Work:
    """The batches of the coming epoch, for a loader whose workers outlive it."""

    def __init__(self):
        self.work: list = []

    def __iter__(self):
        return iter(self.work)

    def __len__(self):
        return len(self.work)


class _View(Dataset):
    """One input at a time. Augmentation is seeded by (run, epoch, sample), so it does not depend on workers or on resuming."""

    def __init__(self, split: LoadedSplit):
        self.dataset, self.augment, self.transform, self.changes = split.dataset, split.augment, split.transform, split.changes

    def __getitem__(self, ask):
        k, epoch, seed = ask
        x = self.dataset[k][0]
        if seed is None or self.augment is None:
            x = x if self.transform is None else self.transform(x)
        else:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(derive(seed, epoch, k))
                x = self.augment(x)
        for change, before in self.changes:
            x = change(x.unsqueeze(0), torch.tensor([k]) if before is None else before[k : k + 1]).squeeze(0)
        return x, k


@dataclass
class Data:
    """What a data option builds: the splits and their description."""

    info: Info
    train: Split
    test: Split
    val: Split | None = None

    def splits(self) -> dict[str, Split]:
        found = {"train": self.train, "val": self.val, "test": self.test}
        return {name: split for name, split in found.items() if split is not None}

    def to(self, device) -> "Data":
        for split in self.splits().values():
            split.to(device)
        return self
