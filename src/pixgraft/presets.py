"""The published experiments and ours, one function each.

A paper's preset (`paper`) follows its text, an `official` one its published code; what differs between them is what is
written out here.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pixgraft.data.celebamask import mirrored
from pixgraft.errors import PixgraftError
from pixgraft.methods import METHODS
from pixgraft.methods.grit import GRITConfig
from pixgraft.methods.i2ilr import I2ILRConfig, published


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a method is trained, whatever the method. Durations are counted in images seen."""

    images: int = 1_000_000
    """When the run ends."""
    batch: int = 8
    """Images for each step, over all processes."""
    microbatch: int = 0
    """Images for each backward within a process; 0: all of the process's share at once."""
    seed: int = 0
    precision: Literal["float32", "bfloat16"] = "float32"
    channels_last: bool = False
    compile: bool = False
    """`torch.compile` for the phases without a double backward."""
    flip: bool = True
    """Mirror each image at random."""
    average_decay: float = 0.999
    """Of the exponential moving averages, for each step."""
    average_warmup: bool = True
    """Let the decay rise to that as (1 + n) / (10 + n) at step n, so that early averages forget the untrained start."""
    checkpoint_every: int = 50_000
    keep: int = 3
    """Checkpoints that stay; 0: all."""
    sample_every: int = 10_000
    samples: int = 16
    """Fixed images of the data set for the sample grid: half are sources, half are targets."""
    log_every: int = 1_000

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise PixgraftError(f"train.batch is {self.batch}: choose a number of images from 1")
        if self.microbatch < 0:
            raise PixgraftError(f"train.microbatch is {self.microbatch}: choose a number of images, or 0")
        if self.samples < 4 or self.samples % 2:
            raise PixgraftError(f"train.samples is {self.samples}: choose an even number from 4")
        if self.keep < 0:
            raise PixgraftError(f"train.keep is {self.keep}: choose a number of checkpoints, or 0 to keep all")
        if not 0 <= self.average_decay < 1:
            raise PixgraftError(f"train.average_decay is {self.average_decay}: choose a number from 0 to below 1")
        for name in ("images", "checkpoint_every", "sample_every", "log_every"):
            if getattr(self, name) < 1:
                raise PixgraftError(f"train.{name} is {getattr(self, name)}: choose a number of images from 1")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """How the data of a method that takes conditions is laid out; a method that takes images alone passes over it."""

    images: str = "images"
    conditions: str = "masks"
    """The folders of images and conditions, wherever they stand within the data; files are matched by their stems."""
    palette: str = ""
    """For conditions in colours: a text file with a line "NAME R G B" for each class."""
    mirrored: tuple[tuple[int, int], ...] = ()
    """Classes that are each other's mirror image, such as the left and the right eye."""
    factors: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    """For conditions of kind lr, made from the images: the shrinking factors, one drawn for each image seen."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """All that a run needs but its data and its folder."""

    name: str
    kind: str
    """The method's name in `pixgraft.methods.METHODS`."""
    method: Any
    """That method's configuration."""
    train: TrainConfig
    data: DataConfig = field(default_factory=DataConfig)

    def __post_init__(self) -> None:
        group = METHODS[self.kind].group
        for name in ("batch", "microbatch"):
            count = getattr(self.train, name)
            if count % group:
                raise PixgraftError(f"train.{name} is {count}: choose a multiple of {group}, which {self.kind} needs")

    @classmethod
    def field_types(cls, values: Mapping[str, Any]) -> dict[str, type]:
        """The types of fields that depend on others' values, for `config.from_dict`."""
        if "kind" not in values:
            return {}
        if not isinstance(values["kind"], str) or values["kind"] not in METHODS:
            raise PixgraftError(f"kind: {values['kind']!r} is not one of {', '.join(map(repr, METHODS))}")
        return {"method": METHODS[values["kind"]].Config}


def i2ilr_paper_128() -> Experiment:
    """Abid et al. 2021, section 4.1, at 128; "a batch size of 8" read as 8 sources and 8 targets."""
    return Experiment(
        name="i2ilr-paper-128",
        kind="i2ilr",
        method=I2ILRConfig(),
        train=TrainConfig(batch=16, images=8_000_000),
    )


def i2ilr_paper_256() -> Experiment:
    """The same at 256, with a weaker cycle and StarGAN v2's discriminator width for that size."""
    return Experiment(
        name="i2ilr-paper-256",
        kind="i2ilr",
        method=I2ILRConfig(image_size=256, lambda_cycle=0.1, discriminator_channels=64),
        train=TrainConfig(batch=16, images=8_000_000),
    )


def i2ilr_official_128() -> Experiment:
    """Every choice of the code published with the paper, but that the generator steps before the discriminator."""
    return Experiment(
        name="i2ilr-official-128",
        kind="i2ilr",
        method=published(128),
        train=TrainConfig(batch=8, images=8_000_000, average_warmup=False),
    )


def _practical(
    image_size: int,
    *,
    generator: tuple[int, int],
    discriminator: tuple[int, int],
    augment: tuple[Literal["translation", "cutout", "color"], ...] = (),
) -> I2ILRConfig:
    """What we train with: the published networks and difference, a loss that keeps its gradient, lazy R1, and a cycle
    strong enough to carry the source's detail within the tens of thousands of images that small machines can see.

    Each pair of widths is the first and the largest.
    """
    return dataclasses.replace(
        published(image_size),
        generator_channels=generator[0],
        generator_max_channels=generator[1],
        discriminator_channels=discriminator[0],
        discriminator_max_channels=discriminator[1],
        adversarial_on_cycle=False,
        lambda_cycle=10.0,
        r1_of="logits",
        r1_gamma=1.0,
        r1_every=16,
        augment=augment,
    )


def i2ilr_portraits_128() -> Experiment:
    """For a GPU and about a thousand portraits; half-precision weights stay under 16 MiB."""
    return Experiment(
        name="i2ilr-portraits-128",
        kind="i2ilr",
        method=_practical(
            128, generator=(64, 256), discriminator=(64, 256), augment=("color", "translation")
        ),
        train=TrainConfig(
            batch=32, images=3_000_000, precision="bfloat16", channels_last=True, average_decay=0.9995
        ),
    )


def i2ilr_small_64() -> Experiment:
    """For a laptop's CPU."""
    return Experiment(
        name="i2ilr-small-64",
        kind="i2ilr",
        method=_practical(64, generator=(24, 192), discriminator=(16, 192)),
        train=TrainConfig(
            batch=8,
            images=200_000,
            precision="bfloat16",
            channels_last=True,
            average_decay=0.998,
            checkpoint_every=5_000,
            sample_every=2_000,
            log_every=400,
        ),
    )


def i2ilr_tiny_32() -> Experiment:
    """For tests: seconds on one core."""
    return Experiment(
        name="i2ilr-tiny-32",
        kind="i2ilr",
        method=_practical(
            32, generator=(8, 16), discriminator=(8, 16), augment=("color", "translation")
        ),
        train=TrainConfig(batch=4, images=400, checkpoint_every=40, sample_every=80, samples=4, log_every=8),
    )


def grit_paper_256() -> Experiment:
    """Suri et al. at 256 with 19 labels (CelebAMask-HQ's own order); StEP's sizes and rates where it is silent."""
    return Experiment(
        name="grit-paper-256",
        kind="grit",
        data=DataConfig(mirrored=mirrored("celebamask-hq")),
        method=GRITConfig(),
        train=TrainConfig(batch=8, images=900_000),
    )


def grit_paper_512() -> Experiment:
    """The same at 512."""
    return Experiment(
        name="grit-paper-512",
        kind="grit",
        data=DataConfig(mirrored=mirrored("celebamask-hq")),
        method=GRITConfig(image_size=512),
        train=TrainConfig(batch=8, images=900_000),
    )


def grit_faces_128() -> Experiment:
    """For a GPU and some thousands of faces under eight labels: background, face, brows, eyes, nose, mouth."""
    return Experiment(
        name="grit-faces-128",
        kind="grit",
        data=DataConfig(mirrored=((2, 3), (4, 5))),
        method=GRITConfig(image_size=128, classes=8, style_lr=1e-3),
        train=TrainConfig(
            batch=32, images=1_500_000, precision="bfloat16", channels_last=True, average_decay=0.9995
        ),
    )


def grit_small_64() -> Experiment:
    """For a laptop's CPU, and the same eight labels."""
    return Experiment(
        name="grit-small-64",
        kind="grit",
        data=DataConfig(mirrored=((2, 3), (4, 5))),
        method=GRITConfig(
            image_size=64,
            classes=8,
            generator_channels=24,
            generator_max_channels=192,
            blocks=2,
            style_channels=(16, 32, 48, 64),
            discriminator_channels=16,
            style_lr=1e-3,
        ),
        train=TrainConfig(
            batch=8,
            images=200_000,
            precision="bfloat16",
            channels_last=True,
            average_decay=0.998,
            checkpoint_every=5_000,
            sample_every=2_000,
            log_every=400,
        ),
    )


def grit_tiny_32() -> Experiment:
    """For tests: seconds on one core."""
    return Experiment(
        name="grit-tiny-32",
        kind="grit",
        method=GRITConfig(
            image_size=32,
            classes=4,
            generator_channels=8,
            generator_max_channels=16,
            downsamplings=2,
            blocks=1,
            style_channels=(8, 16),
            discriminator_channels=8,
            discriminator_max_channels=16,
            discriminator_layers=2,
            discriminator_scales=2,
            style_lr=1e-3,
        ),
        train=TrainConfig(batch=4, images=400, checkpoint_every=40, sample_every=80, samples=4, log_every=8),
    )


PRESETS: dict[str, Callable[[], Experiment]] = {
    "i2ilr-paper-128": i2ilr_paper_128,
    "i2ilr-paper-256": i2ilr_paper_256,
    "i2ilr-official-128": i2ilr_official_128,
    "i2ilr-portraits-128": i2ilr_portraits_128,
    "i2ilr-small-64": i2ilr_small_64,
    "i2ilr-tiny-32": i2ilr_tiny_32,
    "grit-paper-256": grit_paper_256,
    "grit-paper-512": grit_paper_512,
    "grit-faces-128": grit_faces_128,
    "grit-small-64": grit_small_64,
    "grit-tiny-32": grit_tiny_32,
}


def preset(name: str) -> Experiment:
    """The experiment of that name, or a PixgraftError that lists those there are."""
    if name not in PRESETS:
        raise PixgraftError(f"no preset named {name}: choose one of {', '.join(PRESETS)}")
    return PRESETS[name]()
