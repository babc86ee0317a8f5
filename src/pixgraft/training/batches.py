"""The batches that a method is trained on, a function of the experiment and the images seen."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from pixgraft.data import conditions
from pixgraft.data.conditions import ConditionKind
from pixgraft.data.dataset import CPU, Dataset, Loader, SampleOrder, collate
from pixgraft.data.degrade import Degradation
from pixgraft.data.packed import PackedSource, is_packed, open_packed
from pixgraft.data.packing import write_pack
from pixgraft.data.pairs import ItemSource, open_images, open_pairs
from pixgraft.engine import distributed
from pixgraft.engine.bars import Bars
from pixgraft.engine.distributed import World
from pixgraft.errors import PixgraftError
from pixgraft.layers.conditions import ConditionSpec
from pixgraft.methods.base import Batch
from pixgraft.training.experiment import Experiment

HEARTBEAT = 60.0
"""Seconds after which waiting processes hear of the one that packs; their own patience is some minutes."""


class Feed:
    """The training data of an experiment, as an endless sequence of batches."""

    def __init__(self, experiment: Experiment, data: str | Path, *, split: str = "", skip_bad: bool = False) -> None:
        """Open `data`, a folder, zip or packed file; `split` is as `Split` says. `skip_bad` excludes unusable files.

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
        if is_packed(data):
            source: ItemSource = open_packed(data, under=split, images=layout.images)
        elif kind is None:
            source = open_images(data, under=split)
        else:
            folders = {"images": layout.images, "conditions": layout.conditions}
            source = open_pairs(data, **folders, under=split, skip_bad=skip_bad)
        domains = experiment.method.domains
        self.dataset = Dataset(source, size=size, kind=kind, degradation=degradation, seed=train.seed, domains=domains)
        self.excluded = [f"{file.name}: {file.problem}" for file in source.unpaired]
        """The files that `skip_bad` excluded, with the reason, a line each."""
        if skip_bad:
            problems = self.dataset.problems()
            self.excluded += problems.values()
            self.dataset = self.dataset.without(problems)
        self._order = SampleOrder(len(self), seed=train.seed, flip=train.flip)
        self._loader = Loader(self.dataset, self._order)

    def pack(self, file: Path, world: World, *, new: bool, quiet: bool) -> None:
        """Read the items from the packed file `file` from now on, which the first process writes; its bits are the
        same. It is written anew if it is `new` or holds something else.

        Nothing is done for items that fit into memory or are packed, or if the disk has no space for them; a process
        that does not see the file goes on as before. Raises PixgraftError for an unusable item, and if writing fails.
        """
        if self.dataset.fits or isinstance(self.dataset.source, PackedSource):
            return
        if world.rank == 0:
            if new or self._matching(file) is None:
                self._write(file, world, quiet=quiet)
            distributed.gather_objects(True, world)
        else:
            while not distributed.gather_objects(False, world)[0]:
                continue
        if (source := self._matching(file)) is not None:
            self._loader.close()
            self.dataset.source.close()
            self.dataset = self.dataset.read_from(source)
            self._loader = Loader(self.dataset, self._order)

    def _matching(self, file: Path) -> PackedSource | None:
        """The packed file, if it holds the items."""
        try:
            source = open_packed(file)
            packed = self.dataset.read_from(source)
        except PixgraftError:
            return None
        return source if packed.fingerprint() == self.dataset.fingerprint() else None

    def _write(self, file: Path, world: World, *, quiet: bool) -> None:
        """Write the packed file; every now and then the other processes hear that they have to wait."""
        data, heard = self.dataset, time.monotonic()
        with Bars(quiet=quiet) as bars:
            if shutil.disk_usage(file.parent).free < 1.1 * data.bytes:
                bars.note(f"{file}: the disk has no space for {data.bytes:,} bytes: images are decoded at each pass")
                return
            bars.note(f"packing {len(data):,} images, {data.bytes:,} bytes, into {file}: they are decoded once")
            bar = bars.counting("packing")

            def progress(done: int, total: int) -> None:
                nonlocal heard
                bar(done, total)
                if time.monotonic() - heard > HEARTBEAT:
                    distributed.gather_objects(False, world)
                    heard = time.monotonic()

            write_pack(data.source, file, size=data.size, kind=data.kind, progress=progress)

    def __len__(self) -> int:
        return len(self.dataset)

    def batches(
        self, start: int, batch: int, *, rank: int = 0, ranks: int = 1, device: torch.device = CPU
    ) -> Iterator[Batch]:
        """Endless batches on `device` from image `start` on: this rank's share of each step, batch / ranks images."""
        for images, condition in self._loader.batches(start, batch, rank=rank, ranks=ranks, device=device):
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
