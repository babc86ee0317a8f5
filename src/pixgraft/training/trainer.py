"""One training step, and the state that a run needs to continue.

A step runs each due phase on the batch and moves the averages. Its random numbers are a function of (seed, step, phase,
rank).
"""

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pixgraft.engine import checkpoint as checkpoints
from pixgraft.engine import distributed
from pixgraft.engine.checkpoint import Checkpoint
from pixgraft.engine.distributed import World
from pixgraft.engine.ema import Averages
from pixgraft.engine.optimizers import check_optimizer, load_optimizer, optimizer_tensors
from pixgraft.engine.seeds import derive
from pixgraft.engine.tensors import Specs, difference, specs_of
from pixgraft.errors import PixgraftError, shown
from pixgraft.features.networks import attach_features
from pixgraft.methods import METHODS
from pixgraft.methods.base import Batch, Method, Phase
from pixgraft.models import Model, load_model
from pixgraft.records import from_dict, to_dict
from pixgraft.training.experiment import Experiment, RunMeta
from pixgraft.training.start import take_networks
from pixgraft.version import __version__

MOST_UNCHECKED = 1000
"""Updates after which `Trainer` checks their gradients by itself, so that a run that fails ends soon."""


@dataclass(frozen=True)
class _Update:
    """What a later check needs of an update."""

    phase: str
    images_seen: int
    norm: Tensor
    """Of the gradient."""
    losses: dict[str, Tensor]


class Trainer:
    """A method with its optimizers and averages on a device, and the step that updates them."""

    def __init__(
        self, experiment: Experiment, device: torch.device, world: World, *, new: bool = True,
        weights: Mapping[str, Path] | None = None, start: Model | None = None, fetch: bool = True,
    ) -> None:  # fmt: skip
        """`new` loads the networks of the method's prior and backbone; a run that resumes has them in its checkpoint,
        and one that begins from the model `start` takes that model's.

        `weights` are the user's files of feature networks, by the names of `features.weights.WEIGHTS`; without `fetch`
        these networks are the caller's to attach.
        """
        self.experiment, self.device, self.world = experiment, device, world
        train = experiment.train
        torch.manual_seed(derive(train.seed, "weights"))
        self.method: Method = METHODS[experiment.kind](experiment.method)
        self.method.to(device)
        fresh = new and start is None
        self.features = attach_features(self.method, device, weights or {}, new=fresh) if fetch else {}
        if start is not None:
            take_networks(self.method, start)
        elif new and self.method.prior:
            self.method.load_prior(_prior(self.method.prior))
        if train.channels_last:
            self.method.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        distributed.broadcast_module(self.method, world)
        self.optimizers = self.method.optimizers()
        self.averages = Averages({name: self.method.get_submodule(name) for name in self.method.averaged})
        self.phases = self.method.phases()
        self.images_seen = 0
        self.waits = device.type == "cpu"
        """Whether each gradient is checked before its update; else later, so that no phase waits for the device."""
        self._updates: list[_Update] = []
        """Those whose gradients `check_finite` has not seen."""
        if train.compile:
            for module in self.method.compilable():
                module.compile()

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One step on this rank's share of the batch; returns each due phase's losses, detached.

        On a CPU it raises PixgraftError naming the phase whose gradient is not finite; that phase has then changed
        nothing. Elsewhere `check_finite` does, so that no phase waits for the device.
        """
        train = self.experiment.train
        whole = batch.to(self.device)
        if train.channels_last:
            whole.images = whole.images.contiguous(memory_format=torch.channels_last)
        microbatches = whole.split(train.microbatch or len(whole.images))
        number = self.images_seen // train.batch
        self.method.set_progress(self.images_seen)
        losses: dict[str, Tensor] = {}
        for phase in self.phases:
            if number % phase.every == 0:
                losses |= self._run(phase, microbatches, number)
        observed = self._observed(microbatches)
        self.method.adapt(observed, train.batch)
        self.averages.update(train.decay(self.images_seen))
        self.images_seen += train.batch
        return losses | {name: value for name, value in observed.items() if value.numel() == 1}

    def _observed(self, microbatches: list[Batch]) -> dict[str, Tensor]:
        """What the phases observed, averaged over the microbatches and the processes."""
        images = sum(len(batch.images) for batch in microbatches)
        means: dict[str, Tensor] = {}
        for batch in microbatches:
            for name, value in batch.observed.items():
                means[name] = means.get(name, 0) + value.float() * (len(batch.images) / images)
        return distributed.average_tensors(means, self.world)

    def _run(self, phase: Phase, microbatches: list[Batch], number: int) -> dict[str, Tensor]:
        """The update of one phase at step `number`; returns its losses, each a mean over the microbatches."""
        torch.manual_seed(derive(self.experiment.train.seed, "phase", phase.name, number, self.world.rank))
        optimizer = self.optimizers[phase.optimizer]
        parameters = phase.parameters(self.method, optimizer)
        self.method.requires_grad_(False)
        for parameter in parameters:
            parameter.requires_grad_(True)
        means: dict[str, Tensor] = {}
        images = sum(len(batch.images) for batch in microbatches)
        for batch in microbatches:
            with self._precision(phase):
                losses = phase.losses(batch)
                loss = torch.stack([value.float() for value in losses.values()]).sum()
            weight = len(batch.images) / images  # the last one may be smaller
            (loss * (phase.every * weight)).backward()
            for name, value in losses.items():
                means[name] = means.get(name, 0) + value.detach().float() * weight
        norm = distributed.average_gradients(parameters, self.world)
        self._updates.append(_Update(phase.name, self.images_seen, norm, means))
        if self.waits or len(self._updates) == MOST_UNCHECKED:
            self.check_finite()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return means

    def check_finite(self) -> None:
        """Raise PixgraftError naming the first phase, since the last call, whose gradient was not finite.

        Call it before the state is saved or shown: on other devices than the CPU the updates went on. It waits for the
        device.
        """
        updates, self._updates = self._updates, []
        norms = torch.stack([update.norm for update in updates]).tolist() if updates else []
        for update, norm in zip(updates, norms, strict=True):
            if not math.isfinite(norm):
                values = ", ".join(f"{name} {float(value):.4g}" for name, value in update.losses.items())
                raise PixgraftError(
                    f"the gradient of phase {update.phase} is not finite after {update.images_seen:,} images "
                    f"({values}): the last checkpoint is kept; lower that optimizer's learning rate or train in float32"
                )

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

    def save(self, root: Path, *, fingerprint: str) -> Path:
        """Write a checkpoint from which the run continues as if it had not stopped; `fingerprint` is the data's."""
        tensors: dict[str, Tensor] = {}
        meta: dict[str, Any] = {}
        for name, optimizer in self.optimizers.items():
            state, meta[name] = optimizer_tensors(optimizer)
            tensors |= {f"{name}.{key}": value for key, value in state.items()}
        return checkpoints.save(
            root,
            self.images_seen,
            {"networks": dict(self.method.state_dict()), "averages": self.averages.state_dict(), "optimizers": tensors},
            {
                "version": __version__,
                "experiment": {key: each for key, each in to_dict(self.experiment).items() if each is not None},
                "data": fingerprint,
                "optimizers": meta,
                "features": self.features,
            },
            keep=self.experiment.train.keep,
        )

    def check(self, meta: dict[str, Any], tensors: dict[str, Specs]) -> Iterable[str]:
        """Hold a checkpoint against what the experiment makes, as `checkpoints.load` asks for; all its groups are read.

        Raises PixgraftError that names the first difference.
        """
        stored = from_dict(RunMeta, meta, "meta")
        own = {"networks": specs_of(self.method.state_dict()), "averages": specs_of(self.averages.state_dict())}
        for group in sorted({*own, "optimizers"} ^ tensors.keys()):
            raise PixgraftError(f"{group} is {'missing' if group not in tensors else 'one group too many'}")
        for group, expected in own.items():
            if reason := difference(expected, tensors[group]):
                raise PixgraftError(f"the {group} are of another experiment or edited: {reason}")
        parts: dict[str, Specs] = {name: {} for name in self.optimizers}
        for key, spec in tensors["optimizers"].items():
            name, _, rest = key.partition(".")
            parts.setdefault(name, {})[rest] = spec
        for name in sorted(parts.keys() | stored.optimizers.keys()):
            if name not in self.optimizers or name not in stored.optimizers:
                raise PixgraftError(f"the optimizer {shown(name)} is missing or one too many")
            check_optimizer(self.optimizers[name], parts[name], stored.optimizers[name])
        return tensors

    def load(self, checkpoint: Checkpoint) -> None:
        """Restore what `save` wrote. Raises PixgraftError if the losses' networks or the weights are others."""
        groups = checkpoint.groups
        self.check(checkpoint.meta, {name: specs_of(tensors) for name, tensors in groups.items()})
        before = checkpoint.meta.get("features")
        used, now = (_of_losses(self.features if each is None else each) for each in (before, self.features))
        if used != now:
            problem = f"the run's losses used {shown(used)}, and here they have {now}"
            raise PixgraftError(f"{problem}: put that back")
        self.features |= before or {}
        self.method.load_state_dict(groups["networks"])
        self.averages.load_state_dict(groups["averages"])
        for name, optimizer in self.optimizers.items():
            prefix, stored = f"{name}.", groups["optimizers"]
            tensors = {key.removeprefix(prefix): value for key, value in stored.items() if key.startswith(prefix)}
            load_optimizer(optimizer, tensors, checkpoint.meta["optimizers"][name])
        self.images_seen = checkpoint.images_seen
        self.method.set_progress(self.images_seen)


def _prior(model: str) -> Method:
    try:
        return load_model(model).method
    except PixgraftError as error:
        raise PixgraftError(f"{error}, or give another prior with --set method.prior=MODEL") from None


def _of_losses(features: Mapping[str, str]) -> dict[str, str]:
    """The networks that every step calls: a backbone is where a new run begins."""
    return {role: name for role, name in features.items() if role != "backbone"}
