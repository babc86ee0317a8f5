"""The batches that a method is trained on, a function of the experiment and the images seen."""

from collections.abc import Iterator
from pathlib import Path

from pixgraft.data import conditions
from pixgraft.data.conditions import ConditionKind
from pixgraft.data.dataset import Dataset, Loader, SampleOrder, collate
from pixgraft.data.degrade import Degradation
from pixgraft.data.pairs import open_images, open_pairs
from pixgraft.layers.conditions import ConditionSpec
from pixgraft.methods.base import Batch
from pixgraft.training.experiment import Experiment


class Feed:
    """The training data of an experiment, as an endless sequence of batches."""

    def __init__(self, experiment: Experiment, data: str | Path, *, split: str = "", skip_bad: bool = False) -> None:
        """Open `data`, a folder or zip; `split` names a folder within it. `skip_bad` excludes unusable files.

        Raises PixgraftError for data that cannot be opened, or pairs that do not match.
        """
        train, layout = experiment.train, experiment.data
        kind, size = condition_kind(experiment), experiment.method.training_size
        self.path = Path(data)
        self.swapped = kind.mirrored if kind is not None and train.flip else ()
        """Classes that change places where a pair is mirrored."""
        degradation = None
        if kind is not None and kind.kind == "lr":  # made from the images
            degradation, kind = Degradation(factors=layout.factors, enlarging=kind.enlarging), None
        if kind is None:
            source = open_images(data, under=split)
        else:
            folders = {"images": layout.images, "conditions": layout.conditions}
            source = open_pairs(data, **folders, under=split, skip_bad=skip_bad)
        self.dataset = Dataset(source, size=size, kind=kind, degradation=degradation, seed=train.seed)
        self.excluded = [f"{file.name}: {file.problem}" for file in source.unpaired]
        """The files that `skip_bad` excluded, with the reason, a line each."""
        if skip_bad:
            problems = self.dataset.problems()
            self.excluded += problems.values()
            self.dataset = self.dataset.without(problems)
        self._loader = Loader(self.dataset, SampleOrder(len(self), seed=train.seed, flip=train.flip))

    def __len__(self) -> int:
        return len(self.dataset)

    def batches(self, start: int, batch: int, *, rank: int = 0, ranks: int = 1) -> Iterator[Batch]:
        """Endless batches from image `start` on: this rank's share of each step, batch / ranks images."""
        for images, condition in self._loader.batches(start, batch, rank=rank, ranks=ranks):
            yield Batch(images, {}, condition)

    def spread(self, count: int) -> Batch:
        """At most `count` items, an even number, at equal distances over the data: the same ones each time."""
        count = min(count, len(self) // 2 * 2)
        places = [round(i * (len(self) - 1) / max(count - 1, 1)) for i in range(count)]
        images, condition = collate([self.dataset[place] for place in places])
        return Batch(images, {}, condition)

    def close(self) -> None:
        """End the loader's threads and close the files."""
        self._loader.close()
        self.dataset.source.close()


def condition_kind(experiment: Experiment) -> ConditionKind | None:
    """How the conditions of an experiment's data are read; None if it takes images alone.

    Raises PixgraftError if its palette cannot be read or does not fit its classes.
    """
    spec: ConditionSpec | None = experiment.method.condition_spec
    if spec is None or spec.inversion:
        return None
    return conditions.condition_kind(spec, experiment.data.palette, mirrored=experiment.data.mirrored)
