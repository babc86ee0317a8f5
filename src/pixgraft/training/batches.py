"""What a method is trained on: images alone, or images with their conditions, as a stateless sequence of batches."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from pixgraft.data.conditions import ConditionKind, palette_kind
from pixgraft.data.dataset import Dataset, Loader, Order
from pixgraft.data.degrade import Degradation, DegradedDataset
from pixgraft.data.images import from_uint8
from pixgraft.data.pairs import PairedDataset, PairedLoader, open_pairs
from pixgraft.data.sources import open_source
from pixgraft.errors import PixgraftError
from pixgraft.methods.base import Batch
from pixgraft.training.experiment import Experiment


class Feed:
    """The training data of an experiment."""

    def __init__(
        self, experiment: Experiment, data: str | Path, *, split: str = "", skip_bad: bool = False
    ) -> None:
        """Open `data`, a folder or zip; `split` names a folder within it. `skip_bad` leaves unusable pairs out.

        Raises PixgraftError for data that cannot be opened, or pairs that do not match.
        """
        train = experiment.train
        self.path = Path(data)
        self.left_out: list[str] = []
        """What `skip_bad` left out: the file and why, a line each."""
        kind = condition_kind(experiment)
        self.swapped = kind.mirrored if kind is not None and train.flip else ()
        """Classes that change places where a pair is mirrored."""
        size = image_side(experiment)
        self._loader: Loader | PairedLoader
        self._items: Dataset | PairedDataset | DegradedDataset
        if kind is None or kind.kind == "lr":
            images = open_source(data, under=split)
            self._close = images.close
            dataset = Dataset(images, size=size)
            if skip_bad:
                problems = dataset.problems()
                self.left_out = list(problems.values())
                images.names = [name for index, name in enumerate(images.names) if index not in problems]
                dataset = Dataset(images, size=size)
            self.names = images.names
            order = Order(len(dataset), seed=train.seed, flip=train.flip)
            if kind is None:
                self._items, self._loader = dataset, Loader(dataset, order)
                return
            degradation = Degradation(factors=experiment.data.factors, enlarging=kind.enlarging)
            degraded = DegradedDataset(dataset, degradation, seed=train.seed)
            self._items, self._loader = degraded, PairedLoader(degraded, order)
            return
        pairs = open_pairs(
            data, images=experiment.data.images, conditions=experiment.data.conditions, under=split, skip_bad=skip_bad
        )
        self._close = pairs.close
        if skip_bad:
            self.left_out = [f"{each.name}: {each.problem}" for each in pairs.left_out]
            problems = PairedDataset(pairs, size=size, kind=kind).problems()
            self.left_out += problems.values()
            pairs = pairs.without(problems.keys())
        self.names = pairs.names
        paired = PairedDataset(pairs, size=size, kind=kind)
        order = Order(len(paired), seed=train.seed, flip=train.flip)
        self._items, self._loader = paired, PairedLoader(paired, order)

    def __len__(self) -> int:
        return len(self._items)

    def check(self) -> None:
        """Decode every file now, if they fit into memory; PixgraftError, naming the first, if some are unusable."""
        self._items.check()

    def fingerprint(self) -> str:
        """SHA-256 of the names in their order."""
        return self._items.fingerprint()

    def batches(self, start: int, batch: int, *, rank: int = 0, ranks: int = 1) -> Iterator[Batch]:
        """Endless batches from image `start` on: this rank's share of each step, batch / ranks images."""
        if isinstance(self._loader, Loader):
            for images in self._loader.batches(start, batch, rank=rank, ranks=ranks):
                yield Batch(images, {})
            return
        for images, condition in self._loader.batches(start, batch, rank=rank, ranks=ranks):
            yield Batch(images, {}, condition)

    def spread(self, count: int) -> Batch:
        """`count` items at most, an even number, evenly spread over the data: always the same ones."""
        count = min(count, len(self) // 2 * 2)
        items = [self._items[round(i * (len(self) - 1) / max(count - 1, 1))] for i in range(count)]
        pairs = [(item, None) if isinstance(item, Tensor) else item for item in items]
        conditions = [condition for _, condition in pairs if condition is not None]
        images = from_uint8(torch.stack([image for image, _ in pairs]))
        return Batch(images, {}, torch.stack(conditions) if conditions else None)

    def close(self) -> None:
        """Let the threads and the files go."""
        self._loader.close()
        self._close()


def image_side(experiment: Experiment) -> int:
    """The side of the square that images are fitted to, to train or to measure the experiment's models."""
    side: int = getattr(experiment.method, "input_size", experiment.method.image_size)
    return side


def condition_kind(experiment: Experiment) -> ConditionKind | None:
    """How the conditions of an experiment's method are read; None if it takes images alone.

    Raises PixgraftError if its palette cannot be read or does not fit its classes.
    """
    kind = getattr(experiment.method, "condition", None)
    if kind in (None, "self"):
        return None
    classes = experiment.method.classes if kind == "labels" else 0
    mirrored = experiment.data.mirrored if classes else ()
    if palette := experiment.data.palette:
        if kind != "labels":
            raise PixgraftError(f"data.palette {palette}: conditions are of kind {kind}, not labels: leave it out")
        return palette_kind(palette, classes=classes, mirrored=mirrored)
    return ConditionKind(kind=kind, classes=classes, mirrored=mirrored)
