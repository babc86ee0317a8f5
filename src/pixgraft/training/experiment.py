"""The configuration of a run, except for its data and its folder: the method's, the training's, the data layout's."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pixgraft.data.frame import Frame
from pixgraft.engine.optimizers import OptimizerMeta
from pixgraft.errors import PixgraftError, shown
from pixgraft.methods import METHODS


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The training settings that all methods share. Durations are counted in images seen."""

    images: int = 1_000_000
    """The length of the run, in images seen."""
    batch: int = 8
    """Images for each step, over all processes."""
    microbatch: int = 0
    """Images for each backward pass within a process; 0: the process's whole share."""
    seed: int = 0
    """What all random numbers of the run come from: weights, order, mirroring, noise."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16 computes the phases without a double backward in bfloat16; weights stay float32."""
    channels_last: bool = False
    """The memory layout of images and weights: faster on most GPUs and CPUs with bfloat16."""
    compile: bool = False
    """`torch.compile` for the phases without a double backward."""
    flip: bool = True
    """Mirror each image at random."""
    average_decay: float = 0.999
    """The decay of the exponential moving averages for each step."""
    average_warmup: bool = True
    """Limit the decay to (1 + n) / (10 + n) at step n, so that early averages forget the untrained start."""
    average_half_life: int = 0
    """The half-life of the averages in images; above 0 it replaces the decay."""
    average_ramp: float = 0.05
    """The half-life is at most this share of the images seen (Karras et al. 2020, ADA); 0: no limit."""
    checkpoint_every: int = 50_000
    """Images from one checkpoint to the next."""
    keep: int = 3
    """The number of newest checkpoints that are not removed; 0: all."""
    sample_every: int = 10_000
    """Images from one sample grid to the next."""
    samples: int = 16
    """Fixed images of the data set for the sample grid: half are sources, half are targets."""
    log_every: int = 1_000
    """Images from one line of losses to the next; a line has their means since the last one."""
    metric: str = ""
    """fd, or fd:NETWORK: measure outputs for held-out images while training, and keep the best model; empty: do not."""
    metric_every: int = 50_000
    """Images from one measurement to the next."""
    metric_outputs: int = 1_000
    """The most outputs that are measured."""
    metric_split: str = ""
    """What is held out, as --split says it; empty: what --split leaves out of the data."""
    tensorboard: bool = False
    """Write losses, metric and sample grids for TensorBoard too."""

    def __post_init__(self) -> None:
        if self.microbatch < 0:
            raise PixgraftError(f"train.microbatch is {self.microbatch}: choose a number of images, or 0")
        if self.samples < 4 or self.samples % 2:
            raise PixgraftError(f"train.samples is {self.samples}: choose an even number from 4")
        if self.keep < 0:
            raise PixgraftError(f"train.keep is {self.keep}: choose a number of checkpoints, or 0 to keep all")
        if self.metric_outputs < 2:
            raise PixgraftError(f"train.metric_outputs is {self.metric_outputs}: choose a number of images from 2")
        if not 0 <= self.average_decay < 1:
            raise PixgraftError(f"train.average_decay is {self.average_decay}: choose a number from 0 to below 1")
        for name in ("batch", "images", "checkpoint_every", "sample_every", "log_every", "metric_every"):
            if getattr(self, name) < 1:
                raise PixgraftError(f"train.{name} is {getattr(self, name)}: choose a number of images from 1")
        if self.average_half_life < 0 or self.average_ramp < 0:
            raise PixgraftError("train.average_half_life and train.average_ramp must be at least 0")

    def decay(self, images_seen: int) -> float:
        """The averages' decay at the step that begins after `images_seen` images."""
        if self.average_half_life:
            ramp = self.average_ramp * images_seen if self.average_ramp else math.inf
            life = min(self.average_half_life, ramp)
            return 0.5 ** (self.batch / life) if life else 0.0
        number = images_seen // self.batch
        warmup = (1 + number) / (10 + number) if self.average_warmup else 1.0
        return min(self.average_decay, warmup)


@dataclass(frozen=True, kw_only=True)
class StartingModel:
    """The trained model that a run began from."""

    model: str
    """As it was named: a bundled name, a folder or a repository id."""
    weights_sha256: str
    networks: tuple[str, ...]
    """Names of the networks that were taken from it."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The layout of data with conditions; a method that takes images alone ignores it."""

    images: str = "images"
    """The folder of the images, at any depth of the data."""
    conditions: str = "masks"
    """The folder of their conditions, likewise; files are matched by their stems."""
    palette: str = ""
    """For conditions in colours: a text file with a line "NAME R G B" for each class."""
    mirrored: tuple[tuple[int, int], ...] = ()
    """Classes that are each other's mirror image, such as the left and the right eye."""
    factors: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    """For conditions of kind lr, made from the images: the shrinking factors, one drawn for each sample."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """The configuration of a run."""

    name: str
    """The preset's name."""
    kind: str
    """The method's name in `pixgraft.methods.METHODS`."""
    method: Any
    """That method's configuration."""
    train: TrainConfig
    """The training settings that all methods share."""
    data: DataConfig = field(default_factory=DataConfig)
    """The layout of the data."""
    frame: Frame | None = None
    """Where the landmarks of the faces in the images lie; None if that is not known. Training does not depend on it."""
    start: StartingModel | None = None
    """What the run began from; None: random weights."""

    def __post_init__(self) -> None:
        group = METHODS[self.kind].batch_multiple
        for name in ("batch", "microbatch"):
            count = getattr(self.train, name)
            if count % group:
                raise PixgraftError(f"train.{name} is {count}: choose a multiple of {group}, which {self.kind} needs")

    def continued(self, start: StartingModel) -> "Experiment":
        """The experiment that begins from a trained model."""
        return replace(self, start=start, method=self.method.continued())

    @classmethod
    def field_types(cls, values: Mapping[str, Any]) -> dict[str, type]:
        """The types of fields that depend on others' values, for `config.from_dict`."""
        if "kind" not in values:
            return {}
        if not isinstance(values["kind"], str) or values["kind"] not in METHODS:
            raise PixgraftError(f"kind: {shown(values['kind'])} is not one of {', '.join(map(repr, METHODS))}")
        return {"method": METHODS[values["kind"]].Config}


@dataclass(frozen=True, kw_only=True)
class RunMeta:
    """The `meta` of a run's checkpoint."""

    version: str = ""
    """That of pixgraft."""
    experiment: Experiment
    data: str
    """The fingerprint of the images."""
    optimizers: dict[str, OptimizerMeta]
    features: dict[str, str] | None = None
    """The networks of the losses by role; None in the checkpoints of early versions."""
