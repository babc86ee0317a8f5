"""The training loop: batches in; log, sample grids and checkpoints out.

All random numbers are functions of (seed, images seen, rank, phase). A run that was stopped and resumed therefore
equals an uninterrupted one: bit for bit on a CPU, and on a GPU as closely as two runs equal each other.
"""

import contextlib
import dataclasses
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pixgraft import config, devices
from pixgraft.data.splits import Split
from pixgraft.engine import checkpoint as checkpoints
from pixgraft.engine import distributed
from pixgraft.engine.checkpoint import Checkpoint
from pixgraft.engine.distributed import World
from pixgraft.engine.extras import packages
from pixgraft.engine.lock import run_lock
from pixgraft.engine.log import Interrupt, Progress, RunLog
from pixgraft.errors import PixgraftError
from pixgraft.features import BUNDLED, open_feature
from pixgraft.features.weights import MissingWeightsError
from pixgraft.files import remove_leftovers, write_bytes
from pixgraft.methods import METHODS
from pixgraft.methods.base import MethodConfig
from pixgraft.training.batches import Feed
from pixgraft.training.board import Board
from pixgraft.training.experiment import Experiment
from pixgraft.training.folder import (
    BOARD,
    CHECKPOINTS,
    CONFIG_FILE,
    LOG_FILE,
    PACK_FILE,
    SAMPLES,
    former_run,
    has_checkpoints,
    prepare,
    with_frame,
)  # fmt: skip
from pixgraft.training.metric import Best, RunMetric
from pixgraft.training.preview import Previews
from pixgraft.training.start import remarks, started
from pixgraft.training.trainer import Trainer


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    folder: Path
    images_seen: int
    interrupted: str | None
    """The signal's name, if one stopped it."""
    seconds: float = 0.0
    """That its training took, over all its starts."""
    first: bool = True
    """Whether this is the first of its processes."""


def with_available_networks(
    experiment: Experiment, weights: Mapping[str, Path] | None = None, former: Experiment | None = None
) -> Experiment:
    """The experiment; with the bundled perceptual network if it requires LPIPS and the weights are missing.

    `former` is that of the run which resumes. Raises MissingWeightsError if it had the weights.
    """
    config: MethodConfig = experiment.method
    if not config.perceptual_network.startswith("lpips-"):
        return experiment
    try:
        open_feature(config.perceptual_network, weights or {}, torch.device("cpu"), role="perceptual")
    except MissingWeightsError:
        if former is not None and former.method.perceptual_network == config.perceptual_network:
            raise
        return dataclasses.replace(experiment, method=config.with_perceptual_network(BUNDLED))
    return experiment


def train(
    experiment: Experiment, data: str | Path, out: str | Path, *, split: str = "", device: str = "auto",
    weights: Mapping[str, Path] | None = None, start: str = "", skip_bad: bool = False, quiet: bool = False,
) -> Outcome:  # fmt: skip
    """Train `experiment` on the images of `data` in the run folder `out`; a run that is there is resumed.

    `split` names a folder within `data` ("train"), or a list of names (a path that ends in .txt). `weights` are files
    of the losses' networks, by the names of `features.weights.WEIGHTS`; without one the cache or a download is used.
    `start` names a trained model whose networks a new run begins from; a run that is there knows its own. `skip_bad`
    excludes unusable files and lists them. A signal ends the run after its step, with a checkpoint.

    Raises PixgraftError for unusable data, a batch that does not divide over the processes, a folder that holds another
    run or is in use, a full disk, and a gradient that is not finite.
    """
    world = distributed.start(devices.pick(device).type)
    try:
        picked = devices.pick(device, world.local_rank)
        _check_shares(experiment, world)
        folder = Path(out)
        experiment, model = started(experiment, folder, start)
        experiment = with_available_networks(experiment, weights, former_run(folder))
        with contextlib.ExitStack() as stack:
            feed = stack.enter_context(contextlib.closing(Feed(experiment, data, split=split, skip_bad=skip_bad)))
            feed.dataset.check()
            experiment = with_frame(experiment, folder, feed.dataset.source)
            metric = None
            if experiment.train.metric:
                metric = RunMetric(
                    experiment, feed, split=split, skip_bad=skip_bad, weights=weights or {}, device=picked
                )
                stack.callback(metric.close)
            if experiment.train.tensorboard:
                packages("log", "train.tensorboard")
            # A network that is missing is an error here, before anything is written.
            trainer = Trainer(experiment, picked, world, new=not has_checkpoints(folder), weights=weights, start=model)
            if world.rank == 0:
                prepare(folder, experiment, Split(split).folder(Path(data)))
                stack.enter_context(run_lock(folder))
            distributed.barrier()
            return _run(trainer, feed, folder, metric, quiet=quiet or world.rank > 0)
    finally:
        distributed.stop()


def _check_shares(experiment: Experiment, world: World) -> None:
    """Raise PixgraftError if the batch does not divide over the processes."""
    group, batch = METHODS[experiment.kind].batch_multiple * world.size, experiment.train.batch
    if batch % group:
        problem = f"a batch of {batch} does not divide over {world.size} processes"
        raise PixgraftError(f"{problem}: set train.batch to a multiple of {group}")


def _run(trainer: Trainer, feed: Feed, folder: Path, metric: RunMetric | None, *, quiet: bool) -> Outcome:
    train, world = trainer.experiment.train, trainer.world
    first = world.rank == 0
    checkpoint, refused = _resume(trainer, feed, folder)
    log = RunLog(folder / LOG_FILE)
    if first:  # only now: a refusal changes nothing
        for written in (folder, folder / SAMPLES):  # the lock is held
            remove_leftovers(written, alone=True)
        write_bytes(folder / CONFIG_FILE, config.dumps(trainer.experiment).encode())
        log.truncate(trainer.images_seen if checkpoint else -1)  # a new start writes its line of 0 images again
    if train.images - trainer.images_seen > len(feed):  # more than a pass: decoding once pays
        distributed.barrier()  # the leftovers are removed
        feed.pack(folder / PACK_FILE, world, new=checkpoint is None, quiet=quiet)
    if metric is not None and trainer.images_seen < train.images:
        metric.read_reals(feed, world, quiet=quiet)
    board = Board(folder / BOARD, trainer.images_seen) if first and train.tensorboard else None
    log.mirror = None if board is None else board.write
    previews = Previews(trainer, feed.spread(train.samples), folder, log, board)
    best = Best(folder, metric.name) if metric is not None else None
    with Progress(train.images, trainer.images_seen, enabled=not quiet) as progress, Interrupt() as interrupt:
        _announce(progress, trainer, feed, refused)
        if first and trainer.images_seen == 0:
            previews.write(progress)
        batches = feed.batches(
            trainer.images_seen, train.batch, rank=world.rank, ranks=world.size, device=trainer.device
        )
        meter = Meter(trainer.images_seen, world)
        stopping, vote = False, distributed.Vote(world, trainer.device)
        while trainer.images_seen < train.images and not stopping:
            before = trainer.images_seen
            meter.add(trainer.step(next(batches)))
            seen = trainer.images_seen
            stopping = vote.any(interrupt.requested is not None)
            finished = seen >= train.images
            saves = finished or stopping or _passes(before, seen, train.checkpoint_every)
            logs = saves or _passes(before, seen, train.log_every)
            shows = finished or _passes(before, seen, train.sample_every)
            measures = metric is not None and (finished or _passes(before, seen, train.metric_every))
            if logs or shows or measures:
                trainer.check_finite()
            if logs:
                losses, timing = meter.read(seen)
                if first:
                    log.write(images=seen, **timing, **losses)
                progress.update(seen, losses)
            if first and shows:
                previews.write(progress)
            if first and measures and metric is not None and best is not None:
                with meter.paused():
                    best.record(metric.measure(trainer), trainer, log, progress)
            if first and saves:
                trainer.save(folder / CHECKPOINTS, fingerprint=feed.dataset.fingerprint())
    distributed.barrier()
    signals = [name for name in distributed.gather_objects(interrupt.requested, world) if name]
    if board is not None:
        board.close()
    stopped = signals[0] if signals and trainer.images_seen < train.images else None
    seconds = sum(each for line in log.records() if isinstance(each := line.get("seconds"), float))
    return Outcome(folder, trainer.images_seen, stopped, seconds, first)


def _resume(trainer: Trainer, feed: Feed, folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """Load the newest sound checkpoint, if there is one; returns it, and why each newer one was refused.

    Raises PixgraftError if it was trained on other images, if every checkpoint is damaged, or if the processes do not
    start from the same images, networks and checkpoint, which separate disks may hold.
    """
    fingerprint = feed.dataset.fingerprint()
    checkpoint, refused = checkpoints.latest(folder / CHECKPOINTS, trainer.check)
    if checkpoint is not None:
        if checkpoint.meta["data"] != fingerprint:  # `check` has seen that it is there
            raise PixgraftError(f"{feed.path}: other images than {folder} was trained on: give those")
        trainer.load(checkpoint)
    elif refused:
        raise PixgraftError(f"{refused[0]}, or remove {folder / CHECKPOINTS} to begin anew")
    start = (fingerprint, checkpoint.sha256 if checkpoint else None, json.dumps(trainer.features, sort_keys=True))
    starts = distributed.gather_objects(start, trainer.world)
    if len({images for images, *_ in starts}) > 1:
        raise PixgraftError("the processes see different images: give every machine the same data")
    if len({networks for *_, networks in starts}) > 1:
        raise PixgraftError("the processes' losses use different networks: give every machine the same weights")
    if len(set(starts)) > 1:
        raise PixgraftError("the processes see different checkpoints: put the run folder on a disk that all share")
    return checkpoint, refused


def _announce(progress: Progress, trainer: Trainer, feed: Feed, refused: list[str]) -> None:
    """Print what the run starts from."""
    experiment, world = trainer.experiment, trainer.world
    for reason in refused:
        progress.note(f"passed over: {reason}")
    for reason in feed.excluded:
        progress.note(f"left out: {reason}", always=world.rank == 0)
    for line in remarks(experiment, trainer.method, resumed=trainer.images_seen > 0):
        progress.note(line)
    for role, name in trainer.features.items():
        progress.note(f"{role} network: {name.split()[0]}")
    progress.note(
        f"{experiment.name}: {len(feed):,} images, {world.size} process(es) on {trainer.device}, "
        f"from image {trainer.images_seen:,} to {experiment.train.images:,}"
    )
    if feed.swapped:
        classes = ", ".join(f"{one} and {other}" for one, other in feed.swapped)
        progress.note(f"in mirrored pairs these classes change places: {classes} (data.mirrored)")
    if {"train", "test"} <= {name.split("/")[0] for name in feed.dataset.source.names}:
        progress.note("note: these are the images of train/ and test/ both; --split train keeps the test set apart")


def _passes(before: int, now: int, every: int) -> bool:
    """Whether a multiple of `every` lies in (before, now]."""
    return now // every > before // every


class Meter:
    """The losses and the speed since it was last read."""

    def __init__(self, images_seen: int, world: World) -> None:
        self._world, self._images, self._time = world, images_seen, time.monotonic()
        self._losses: dict[str, list[Tensor]] = {}

    def add(self, losses: dict[str, Tensor]) -> None:
        """Add the losses of one step."""
        for name, value in losses.items():
            self._losses.setdefault(name, []).append(value)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """The time within does not count."""
        start = time.monotonic()
        yield
        self._time += time.monotonic() - start

    def read(self, images_seen: int) -> tuple[dict[str, float], dict[str, float]]:
        """Each loss averaged over the steps it was due at and over the ranks; and `seconds` and images/s `speed`."""
        means = {name: float(torch.stack(values).mean()) for name, values in self._losses.items()}
        ranks = distributed.gather_objects(means, self._world)
        means = {name: sum(each[name] for each in ranks) / len(ranks) for name in means}
        now = time.monotonic()
        seconds = now - self._time
        timing = {"seconds": round(seconds, 3), "speed": (images_seen - self._images) / seconds}
        self._losses, self._images, self._time = {}, images_seen, now
        return means, timing
