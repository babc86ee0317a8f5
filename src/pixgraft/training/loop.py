"""The training loop: phases in, trained weights out.

One step draws `batch` images, runs each phase that is due on them, and moves the averages. Everything random is a
function of (seed, images seen, rank, phase), so a run that was stopped and started again gives what one run would
have given: equal bits on a CPU, and on a GPU as equal as two runs are.
"""

import contextlib
import dataclasses
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pixgraft import config as configs
from pixgraft import devices
from pixgraft.engine import checkpoint as checkpoints
from pixgraft.engine import distributed
from pixgraft.engine.checkpoint import Checkpoint
from pixgraft.engine.distributed import World
from pixgraft.engine.ema import Averages
from pixgraft.engine.lock import run_lock
from pixgraft.engine.log import Interrupt, Progress, RunLog
from pixgraft.engine.seeds import derive
from pixgraft.errors import PixgraftError
from pixgraft.features.networks import attach_features, with_available_networks
from pixgraft.files import write_bytes
from pixgraft.methods import METHODS
from pixgraft.methods.base import Batch, Method, Phase
from pixgraft.models import load_model
from pixgraft.networks.stylegan2 import Generator
from pixgraft.training.batches import Feed
from pixgraft.training.experiment import Experiment
from pixgraft.training.preview import Watch
from pixgraft.version import __version__

CONFIG_FILE = "config.toml"
CHECKPOINTS = "checkpoints"
MAY_CHANGE = ("images", "checkpoint_every", "keep", "sample_every", "log_every")
"""Fields of the run's configuration that another value of does not make another run."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    folder: Path
    images_seen: int
    interrupted: str | None
    """The signal's name, if one stopped it."""


class Trainer:
    """A method with its optimizers and averages on a device, and the one step that moves them."""

    def __init__(self, experiment: Experiment, device: torch.device, world: World, *, new: bool = True) -> None:
        """`new`: it begins to train, and so takes its prior's networks, which a checkpoint has."""
        self.experiment, self.device, self.world = experiment, device, world
        train = experiment.train
        torch.manual_seed(derive(train.seed, "weights"))
        self.method: Method = METHODS[experiment.kind](experiment.method)
        self.method.to(device)
        self.features = attach_features(self.method, device)
        if new and self.method.prior:
            self.method.load_prior(load_model(self.method.prior).method)
        if train.channels_last:
            self.method.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        distributed.broadcast_module(self.method, world)
        self.optimizers = self.method.optimizers()
        self.averages = Averages({name: self.method.get_submodule(name) for name in self.method.averaged})
        self.phases = self.method.phases()
        self.images_seen = 0
        if train.compile:
            for network in self.method.children():
                # Of StyleGAN2's generator the parts are called, not the whole.
                for part in network.children() if isinstance(network, Generator) else (network,):
                    part.compile()

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One step on this rank's share of the batch; returns each due phase's losses, detached.

        Raises PixgraftError naming the phase whose gradient is not finite; that phase has then changed nothing.
        """
        train = self.experiment.train
        whole = batch.to(self.device)
        if train.channels_last:
            whole.images = whole.images.contiguous(memory_format=torch.channels_last)
        batches = whole.split(train.microbatch or len(whole.images))
        number = self.images_seen // train.batch
        self.method.set_progress(self.images_seen)
        losses: dict[str, Tensor] = {}
        for phase in self.phases:
            if number % phase.every == 0:
                losses |= self._run(phase, batches, number)
        observed = self._observed(batches)
        self.method.adapt(observed, train.batch)
        self.averages.update(train.decay(self.images_seen))
        self.images_seen += train.batch
        return losses | {name: value for name, value in observed.items() if value.numel() == 1}

    def _observed(self, batches: list[Batch]) -> dict[str, Tensor]:
        """What the phases saw, averaged over the microbatches and the processes."""
        images = sum(len(batch.images) for batch in batches)
        totals: dict[str, Tensor] = {}
        for batch in batches:
            for name, value in batch.observed.items():
                totals[name] = totals.get(name, 0) + value.float() * (len(batch.images) / images)
        return distributed.average_tensors(totals, self.world)

    def _run(self, phase: Phase, batches: list[Batch], number: int) -> dict[str, Tensor]:
        torch.manual_seed(derive(self.experiment.train.seed, "phase", phase.name, number, self.world.rank))
        optimizer = self.optimizers[phase.optimizer]
        own = _parameters(optimizer)
        self.method.requires_grad_(False)
        for parameter in own:
            parameter.requires_grad_(True)
        totals: dict[str, Tensor] = {}
        images = sum(len(batch.images) for batch in batches)
        for batch in batches:
            with self._precision(phase):
                losses = phase.losses(batch)
                loss = torch.stack([value.float() for value in losses.values()]).sum()
            weight = len(batch.images) / images  # the last one may be smaller
            (loss * (phase.every * weight)).backward()
            for name, value in losses.items():
                totals[name] = totals.get(name, 0) + value.detach().float() * weight
        norm = distributed.average_gradients(own, self.world)
        if not torch.isfinite(torch.tensor(norm)):
            shown = ", ".join(f"{name} {float(value):.4g}" for name, value in totals.items())
            raise PixgraftError(
                f"the gradient of phase {phase.name} is not finite after {self.images_seen:,} images ({shown}): "
                "the last checkpoint is kept; lower that optimizer's learning rate or train in float32"
            )
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return totals

    @contextlib.contextmanager
    def _precision(self, phase: Phase) -> Iterator[None]:
        low = self.experiment.train.precision == "bfloat16" and not phase.precise
        tf32 = torch.backends.cudnn.allow_tf32
        # Compiled graphs have no double backward.
        eager = self.experiment.train.compile and phase.precise
        with (
            torch.autocast(self.device.type, torch.bfloat16, enabled=low),
            torch.compiler.set_stance("force_eager") if eager else contextlib.nullcontext(),
        ):
            torch.backends.cudnn.allow_tf32 = tf32 and not phase.precise
            try:
                yield
            finally:
                torch.backends.cudnn.allow_tf32 = tf32

    @contextlib.contextmanager
    def averaged(self) -> Iterator[Method]:
        """The method with its averages in the place of the live networks."""
        live = {name: self.method.get_submodule(name) for name in self.averages.modules}
        try:
            for name, average in self.averages.modules.items():
                setattr(self.method, name, average)
            yield self.method
        finally:
            for name, network in live.items():
                setattr(self.method, name, network)

    def look(self, watch: Watch, progress: Progress) -> None:
        """Show the averaged networks as they are now."""
        with self.averaged() as method:
            watch.look(method, self.images_seen, progress)

    def save(self, root: Path, *, fingerprint: str) -> Path:
        """Write all that the run needs to go on as if it had not stopped."""
        tensors: dict[str, Tensor] = {}
        meta: dict[str, Any] = {}
        for name, optimizer in self.optimizers.items():
            state, meta[name] = checkpoints.optimizer_tensors(optimizer)
            tensors |= {f"{name}.{key}": value for key, value in state.items()}
        return checkpoints.save(
            root,
            self.images_seen,
            {
                "networks": dict(self.method.state_dict()),
                "averages": self.averages.state_dict(),
                "optimizers": tensors,
            },
            {
                "version": __version__,
                "experiment": configs.to_dict(self.experiment),
                "data": fingerprint,
                "optimizers": meta,
                "features": self.features,
            },
            keep=self.experiment.train.keep,
        )

    def load(self, checkpoint: Checkpoint) -> None:
        """Take back what `save` wrote."""
        if (used := checkpoint.meta.get("features", self.features)) != self.features:
            raise PixgraftError(f"the run's losses used {used}, and here they have {self.features}: put that back")
        self.method.load_state_dict(checkpoint.groups["networks"])
        self.averages.load_state_dict(checkpoint.groups["averages"])
        for name, optimizer in self.optimizers.items():
            prefix = f"{name}."
            tensors = {
                key.removeprefix(prefix): value
                for key, value in checkpoint.groups["optimizers"].items()
                if key.startswith(prefix)
            }
            checkpoints.load_optimizer(optimizer, tensors, checkpoint.meta["optimizers"][name])
        self.images_seen = checkpoint.images_seen
        self.method.set_progress(self.images_seen)


def _parameters(optimizer: Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def train(
    experiment: Experiment,
    data: str | Path,
    out: str | Path,
    *,
    split: str = "",
    device: str = "auto",
    skip_bad: bool = False,
    quiet: bool = False,
) -> Outcome:
    """Train `experiment` on the images of `data` in the run folder `out`, going on where that folder stands.

    `split` names a folder within `data` ("train"). `skip_bad` leaves out pairs that are unusable, and lists them. A
    signal ends the run after its step, with a checkpoint.

    Raises:
        PixgraftError: unusable data, a folder that holds another run or is in use, a full disk, a gradient that is
            not finite.
    """
    picked = devices.pick(device)
    world = distributed.start(picked.type)
    try:
        picked = devices.pick(device, world.local_rank)
        _check_shares(experiment, world)
        experiment = with_available_networks(experiment)
        folder = Path(out)
        with contextlib.ExitStack() as stack:
            feed = stack.enter_context(contextlib.closing(Feed(experiment, data, split=split, skip_bad=skip_bad)))
            feed.check()
            new = not any((folder / CHECKPOINTS).glob("[0-9]*"))
            trainer = Trainer(experiment, picked, world, new=new)  # what it lacks is said before anything is written
            if world.rank == 0:
                _prepare(folder, experiment, Path(data) / split)
                stack.enter_context(run_lock(folder))
            distributed.barrier()
            return _loop(trainer, feed, folder, quiet=quiet or world.rank > 0)
    finally:
        distributed.stop()


def _check_shares(experiment: Experiment, world: World) -> None:
    group = METHODS[experiment.kind].batch_multiple
    if experiment.train.batch % (group * world.size):
        raise PixgraftError(
            f"a batch of {experiment.train.batch} does not divide over {world.size} processes: "
            f"set train.batch to a multiple of {group * world.size}"
        )


def _prepare(folder: Path, experiment: Experiment, data: Path) -> None:
    """Make the run folder, or see that it holds this very run; nothing in it changes."""
    if data.is_dir() and folder.resolve().is_relative_to(data.resolve()):
        raise PixgraftError(f"{folder}: is inside {data}, so its grids would become data: choose another folder")
    file = folder / CONFIG_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if file.exists():
            former = configs.loads(Experiment, file.read_text(encoding="utf-8", errors="replace"), str(file))
            differing = _differences(former, experiment)
            if differing:
                raise PixgraftError(
                    f"{folder}: holds another run ({', '.join(differing)}): choose another folder, or these values"
                )
        elif any(entry for entry in folder.iterdir() if entry.name != ".lock"):
            raise PixgraftError(f"{folder}: not empty and not a run folder: choose another one")
    except OSError as error:
        raise PixgraftError(
            f"{folder}: cannot be used as a run folder: {error.strerror}: choose another one"
        ) from error


def _differences(former: Experiment, now: Experiment) -> list[str]:
    """Each field that makes `now` another run than `former`, with both values."""
    if former.kind != now.kind:  # whose methods have other fields
        return [f"kind was {former.kind!r}, not {now.kind!r}"]
    lines = []
    for part in ("", "method", "data", "train"):
        a, b = (getattr(e, part) if part else e for e in (former, now))
        for field in dataclasses.fields(a):
            x, y = getattr(a, field.name), getattr(b, field.name)
            may_change = (part == "train" and field.name in MAY_CHANGE) or (part, field.name) == ("method", "prior")
            if x != y and not dataclasses.is_dataclass(x) and not may_change:
                lines.append(f"{part}{'.' if part else ''}{field.name} was {x!r}, not {y!r}")
    return lines


def _loop(trainer: Trainer, feed: Feed, folder: Path, *, quiet: bool) -> Outcome:
    experiment, world, train = trainer.experiment, trainer.world, trainer.experiment.train
    fingerprint = feed.fingerprint()
    found, refused = checkpoints.latest(folder / CHECKPOINTS)
    if found is not None:
        if found.meta["data"] != fingerprint:
            raise PixgraftError(f"{feed.path}: other images than {folder} was trained on: give those")
        trainer.load(found)
    elif refused:
        raise PixgraftError(f"{refused[0]}, or remove {folder / CHECKPOINTS} to begin anew")
    _check_agreement(trainer, fingerprint, found)
    if world.rank == 0:  # only now: a refusal changes nothing
        write_bytes(folder / CONFIG_FILE, configs.dumps(experiment).encode())
    log = RunLog(folder / "log.jsonl")
    if world.rank == 0:
        log.truncate(trainer.images_seen if found else -1)  # a new start writes its line of 0 images again
    watch = Watch(feed.spread(train.samples).to(trainer.device), folder, log)
    sums: dict[str, list[Tensor]] = {}
    with (
        Progress(train.images, trainer.images_seen, enabled=not quiet) as progress,
        Interrupt() as interrupt,
    ):
        for reason in refused:
            progress.note(f"passed over: {reason}")
        for reason in feed.left_out:
            progress.note(f"left out: {reason}", always=world.rank == 0)
        for role, name in trainer.features.items():
            progress.note(f"{role} network: {name.split()[0]}")
        progress.note(
            f"{experiment.name}: {len(feed):,} images, {world.size} process(es) on {trainer.device}, "
            f"from image {trainer.images_seen:,} to {train.images:,}"
        )
        if feed.swapped:
            classes = ", ".join(f"{one} and {other}" for one, other in feed.swapped)
            progress.note(f"in mirrored pairs these classes change places: {classes} (data.mirrored)")
        if {"train", "test"} <= {name.split("/")[0] for name in feed.names}:
            progress.note("note: these are the images of train/ and test/ both; --split train keeps the test set apart")
        if trainer.images_seen == 0 and world.rank == 0:
            trainer.look(watch, progress)
        batches = feed.batches(trainer.images_seen, train.batch, rank=world.rank, ranks=world.size)
        stopping = False
        clock = time.monotonic()
        logged = trainer.images_seen
        while trainer.images_seen < train.images and not stopping:
            before = trainer.images_seen
            for name, value in trainer.step(next(batches)).items():
                sums.setdefault(name, []).append(value)
            now = trainer.images_seen
            stopping = distributed.any_rank(interrupt.requested is not None, world, trainer.device)
            ended = now >= train.images or stopping
            saves = ended or _passes(before, now, train.checkpoint_every)
            if saves or _passes(before, now, train.log_every):
                means = _means(sums, world)
                seconds, clock = time.monotonic() - clock, time.monotonic()
                if world.rank == 0:
                    log.write(images=now, seconds=round(seconds, 3), speed=(now - logged) / seconds, **means)
                progress.update(now, means)
                sums, logged = {}, now
            if world.rank == 0:
                if _passes(before, now, train.sample_every) or now >= train.images:
                    trainer.look(watch, progress)
                if saves:
                    trainer.save(folder / CHECKPOINTS, fingerprint=fingerprint)
    distributed.barrier()
    signals = [name for name in distributed.gather_objects(interrupt.requested, world) if name]
    return Outcome(folder, trainer.images_seen, signals[0] if signals and trainer.images_seen < train.images else None)


def _check_agreement(trainer: Trainer, fingerprint: str, found: Checkpoint | None) -> None:
    """See that all processes begin with the same images at the same checkpoint, which separate disks may not hold."""
    own = (fingerprint, found.sha256 if found else None, json.dumps(trainer.features, sort_keys=True))
    starts = distributed.gather_objects(own, trainer.world)
    if len({images for images, *_ in starts}) > 1:
        raise PixgraftError("the processes see different images: give every machine the same data")
    if len({networks for *_, networks in starts}) > 1:
        raise PixgraftError("the processes' losses use different networks: give every machine the same weights")
    if len(set(starts)) > 1:
        raise PixgraftError("the processes see different checkpoints: put the run folder on a disk that all share")


def _passes(before: int, now: int, every: int) -> bool:
    """Whether a multiple of `every` lies in (before, now]."""
    return now // every > before // every


def _means(sums: dict[str, list[Tensor]], world: World) -> dict[str, float]:
    """Each loss averaged over the steps it was due at since the last line, and over the ranks."""
    own = {name: float(torch.stack(values).mean()) for name, values in sums.items()}
    everyone = distributed.gather_objects(own, world)
    return {name: sum(each[name] for each in everyone) / len(everyone) for name in own}
