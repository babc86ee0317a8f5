"""A metric of a run's averages while it trains: outputs for held-out images against the training images.

Nothing of the training depends on it: it has random numbers of its own and changes no weight, so that a run has the
same weights with it and without. Shape letters: N images, S side of an image.
"""

import contextlib
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from pixgraft.data.dataset import collate
from pixgraft.data.images import to_uint8
from pixgraft.data.outputs import write_together
from pixgraft.data.threads import in_threads
from pixgraft.engine import distributed
from pixgraft.engine.bars import Bars
from pixgraft.engine.distributed import World
from pixgraft.engine.log import Progress, RunLog
from pixgraft.engine.seeds import generator
from pixgraft.errors import PixgraftError
from pixgraft.features import BUNDLED, PASS, in_passes, open_feature
from pixgraft.files import read_json
from pixgraft.methods import METHODS
from pixgraft.methods.base import Batch
from pixgraft.metrics.frechet import Moments, frechet_distance
from pixgraft.models import DESCRIPTION, DESCRIPTION_LIMIT, model_files
from pixgraft.records import to_dict
from pixgraft.training.batches import Feed
from pixgraft.training.experiment import Experiment
from pixgraft.training.folder import BEST
from pixgraft.training.trainer import Trainer

FRECHET = "fd"
"""The one kind of metric."""


class RunMetric:
    """The Fréchet distance of a run's averages. Every process has one; the first measures."""

    def __init__(
        self, experiment: Experiment, feed: Feed, *, split: str, skip_bad: bool, weights: Mapping[str, Path],
        device: torch.device,
    ) -> None:  # fmt: skip
        """`feed` has the training images, which are `split` of its data.

        Raises PixgraftError for an unknown metric or network, weights that are missing, and held-out images that are
        unusable or too few.
        """
        train, method = experiment.train, METHODS[experiment.kind]
        kind, _, network = train.metric.partition(":")
        if kind != FRECHET:
            raise PixgraftError(f"train.metric is {train.metric}: choose {FRECHET}, or {FRECHET}:NETWORK")
        feature = open_feature(network or BUNDLED, weights, device)
        self.name = f"{kind}:{feature.name}"
        """Its name in the log."""
        self._network, self._seed, self._device = feature.network, train.seed, device
        self._count, self._held, self._reals = train.metric_outputs, None, Moments(1)
        if method.takes_inputs:
            self._held = _held_out(experiment, feed, split, skip_bad)
            if not method.several_outputs:
                self._count = min(self._count, len(self._held))

    def close(self) -> None:
        """Close the files of the held-out images."""
        if self._held is not None:
            self._held.close()

    def read_reals(self, feed: Feed, world: World, *, quiet: bool) -> None:
        """Take the features of all training images. Every process calls this, and they share the work."""
        share = range(world.rank, len(feed), world.size)
        with Bars(quiet=quiet) as bars, contextlib.closing(in_threads(feed.dataset.__getitem__, share)) as items:
            advance = bars.part(f"{self.name}: the training images", len(share))
            part = self._moments((item.image for _, item in items), advance)
        for other in filter(None, distributed.gather_to_first(part, world)):
            self._reals = self._reals + other if self._reals.count else other

    def measure(self, trainer: Trainer) -> float:
        """The distance now; infinite if the outputs have none, being all alike."""
        with trainer.averaged() as method, torch.no_grad():
            outputs = self._moments(self._outputs(method.outputs))
        assert outputs is not None
        try:
            return frechet_distance(self._reals, outputs)
        except PixgraftError:
            return math.inf

    def _outputs(self, outputs: Callable[..., Tensor]) -> Iterator[Tensor]:
        """The outputs uint8 (3, S, S), of all that is held out in turn."""
        for start in range(0, self._count, PASS):
            numbers = range(start, start + PASS)
            randoms = [generator(self._seed, "z", number) for number in numbers]
            made = outputs(self._items(numbers), self._items(numbers, apart=1).images, randoms)
            yield from to_uint8(made).cpu()[: self._count - start]

    def _items(self, numbers: range, *, apart: int = 0) -> Batch:
        """What is held out of these numbers, or as many places `apart` as turns were taken."""
        if self._held is None:
            return Batch(torch.zeros(len(numbers), 3, 1, 1), {}).to(self._device)
        count = len(self._held)
        places = [number + apart * (1 + number // count % (count - 1)) for number in numbers]
        images, condition = collate([self._held.dataset[place % count] for place in places])
        return Batch(images, {}, condition).to(self._device)

    def _moments(self, images: Iterable[Tensor], advance: Callable[[int], None] = lambda count: None) -> Moments | None:
        """The moments of the features of images uint8 (3, S, S); None of no image."""
        moments, rest = None, iter(images)
        while part := list(itertools.islice(rest, PASS)):
            features = torch.cat(list(in_passes(self._network, torch.stack(part), self._device)))
            moments = moments or Moments(features.shape[1], blocks=1)
            moments.update(features, torch.zeros(len(features), dtype=torch.int64))
            advance(len(part))
        return moments


def _held_out(experiment: Experiment, feed: Feed, split: str, skip_bad: bool) -> Feed:
    """The held-out images, no more than are measured: those of `train.metric_split`, or what `split` leaves out."""
    train = experiment.train
    named, mend = train.metric_split, "name some with --set train.metric_split=SPLIT"
    if not named and not split:
        raise PixgraftError(f"{feed.path}: a metric takes images that are held out: give --split, or {mend}")
    held = Feed(experiment, feed.path, split=named, skip_bad=skip_bad)
    trained = set() if named else set(feed.dataset.source.names)
    left = [place for place, name in enumerate(held.dataset.source.names) if name not in trained]
    if len(left) < 2:
        raise PixgraftError(f"{feed.path}: {len(left)} images are held out, and a metric takes 2: {mend}")
    count = min(train.metric_outputs, len(left))
    chosen = {left[round(number * (len(left) - 1) / (count - 1))] for number in range(count)}
    held.dataset = held.dataset.without(set(range(len(held))) - chosen)
    held.dataset.check()
    return held


class Best:
    """The model folder of the best averages so far."""

    def __init__(self, folder: Path, metric: str) -> None:
        """`folder` is the run folder, where there may be one of an earlier start; `metric` the name in the log."""
        self.folder, self._metric, self._value = folder / BEST, metric, math.inf
        with contextlib.suppress(OSError, PixgraftError, LookupError, TypeError):  # none, half-written or edited
            entry = read_json(self.folder / DESCRIPTION, DESCRIPTION_LIMIT)["metric"]
            if entry["name"] == metric and isinstance(entry["value"], float):
                self._value = entry["value"]

    def record(self, value: float, trainer: Trainer, log: RunLog, progress: Progress) -> None:
        """Write the metric's value to the log, and the averages to the folder if it is the lowest so far."""
        seen, experiment = trainer.images_seen, trainer.experiment
        log.write(images=seen, **{self._metric: value})
        progress.note(f"{self._metric} {value:.4g} after {seen:,} images" + " (the best)" * (value < self._value))
        if value >= self._value:
            return
        self._value = value
        info = {"images_seen": seen, "preset": experiment.name, "metric": {"name": self._metric, "value": value}}
        frame = {} if experiment.frame is None else {"frame": to_dict(experiment.frame)}
        with trainer.averaged() as method:
            write_together(self.folder, model_files(method, info=info | frame), pending=b"")
