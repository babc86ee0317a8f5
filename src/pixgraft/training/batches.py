"""The batches that a method is trained on, a function of the experiment and the images seen."""

from collections.abc import Iterator
from pathlib import Path

from pixgraft.data import conditions
from pixgraft.data.conditions import ConditionKind
from pixgraft.data.dataset import Dataset, Loader, SampleOrder, collate
from pixgraft.data.degrade import Degradation
from pixgraft.data.pairs import open_images, open_pairs
from pixgraft.methods.base import Batch, MethodConfig
from pixgraft.training.experiment import Experiment


class Feed:
    """The training data of an experiment, as an endless sequence of batches."""

    def __init__(
        self, experiment: Experiment, data: str | Path, *, split: str = "", skip_bad: bool = False
    ) -> None:
        """Open `data`, a folder or zip; `split` names a folder within it. `skip_bad` excludes unusable files.

        Raises PixgraftError for data that cannot be opened, or pairs that do not match.
        """
        train, layout = experiment.train, experiment.data
        kind, size = condition_kind(experiment), experiment.method.training_size
        self.path = Path(data)
        self.swapped = kind.mirrored if kind is not None and train.flip else ()
        """Classes that change places where a pair is mirrored."""
        if kind is None:
            self._dataset = Dataset(open_images(data, under=split), size=size)
        elif kind.kind == "lr":
            degradation = Degradation(factors=layout.factors, enlarging=kind.enlarging)
            source = open_images(data, under=split)
            self._dataset = Dataset(source, size=size, degradation=degradation, seed=train.seed)
        else:
            source = open_pairs(
                data, images=layout.images, conditions=layout.conditions, under=split, skip_bad=skip_bad
            )
            self._dataset = Dataset(source, size=size, kind=kind)
        self.excluded = [f"{file.name}: {file.problem}" for file in self._dataset.source.unpaired]
        """The files that `skip_bad` excluded, with the reason, a line each."""
        if skip_bad:
            problems = self._dataset.problems()
            self.excluded += problems.values()
            self._dataset = self._dataset.without(problems)
        self._loader = Loader(self._dataset, SampleOrder(len(self), seed=train.seed, flip=train.flip))

    def __len__(self) -> int:
        return len(self._dataset)

    @property
    def names(self) -> list[str]:
        """The images' file names, relative to the root of the data."""
        return self._dataset.source.names

    def check(self) -> None:
        """Decode every file now, if they fit into memory; PixgraftError, naming the first, if some are unusable."""
        self._dataset.check()

    def fingerprint(self) -> str:
        """SHA-256 of the names in their order."""
        return self._dataset.fingerprint()

    def batches(self, start: int, batch: int, *, rank: int = 0, ranks: int = 1) -> Iterator[Batch]:
        """Endless batches from image `start` on: this rank's share of each step, batch / ranks images."""
        for images, condition in self._loader.batches(start, batch, rank=rank, ranks=ranks):
            yield Batch(images, {}, condition)

    def spread(self, count: int) -> Batch:
        """At most `count` items, an even number, at equal distances over the data: the same ones each time."""
        count = min(count, len(self) // 2 * 2)
        places = [round(i * (len(self) - 1) / max(count - 1, 1)) for i in range(count)]
        images, condition = collate([self._dataset[place] for place in places])
        return Batch(images, {}, condition)

    def close(self) -> None:
        """End the loader's threads and close the files."""
        self._loader.close()
        self._dataset.source.close()


def condition_kind(experiment: Experiment) -> ConditionKind | None:
    """How the conditions of an experiment's data are read; None if it takes images alone.

    Raises PixgraftError if its palette cannot be read or does not fit its classes.
    """
    config: MethodConfig = experiment.method
    spec, data = config.condition_spec, experiment.data
    if spec is None or spec.inversion:
        return None
    return conditions.condition_kind(spec, data.palette, mirrored=data.mirrored)
