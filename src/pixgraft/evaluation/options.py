"""Options of `pixgraft evaluate`, `card` and `nearest`, as dataclasses: the command line is made from them. Nothing
heavy is imported."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import UseAppendAction, arg

from pixgraft.errors import PixgraftError


@dataclass(frozen=True, kw_only=True)
class MeasuringOptions:
    """On what data a model is measured, and how."""

    data: Path | None = None
    """The images that a model is measured on: a folder or a zip."""
    split: str = ""
    """The folder within --data to use, such as "test"."""
    real: Path | None = None
    """The set of reals; with a model the default is --data."""
    real_split: str = ""
    """The folder to use within --real, or within --data if there is no --real."""
    size: int = 0
    """Fit every image to this side; 0: folders as they are, and a model's own size."""
    metrics: tuple[str, ...] = ()
    """Metrics in place of the usual ones: fd kd precision recall density coverage perceptual diversity deviation l1 l2
    psnr ssim piqe identity identity-other consistency consistency-largest downscaling consistent drawing seconds
    processor change-coarse change-middle change-fine spectrum. fd:NETWORK picks a network."""
    features: tuple[str, ...] = ()
    """Feature networks: squeezenet inception inception-clean inception-torchvision vgg16 lpips-alex lpips-vgg
    lpips-squeeze mobilefacenet irse50."""
    weights: tuple[str, ...] = ()
    """A network's weights as NAME=FILE; without it the cache or a download is used."""
    samples: int = 0
    """Outputs for each target or condition, or a prior's samples; 0: as the protocol says."""
    project: bool = False
    """Move each output until it shrinks to its target within one grey level."""
    images: str = "images"
    """For models that take conditions from files: the images' folder within --data."""
    conditions: str = "masks"
    """For the same: the conditions' folder within --data; files are matched by their stems."""
    palette: Path | None = None
    """For label maps in colours: a text file with a line "NAME R G B" for each class."""
    out: Path | None = None
    """The folder for the result and its report; without it the table is only printed."""
    seed: int = 0
    """Seed of the drawn sources and of the bootstrap."""
    bootstrap: int = 200
    """Replicates of each 95 % interval; 0: none."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    threads: int = 0
    """Threads of the CPU; 0: as PyTorch chooses. Another number can move single pixels by one level."""
    quiet: bool = False
    """Show no progress."""

    def check_size(self, size: int) -> None:
        """Raise PixgraftError if --size differs from `size`, the model's."""
        if self.size not in (0, size):
            raise PixgraftError(f"--size {self.size}: the model is measured at {size}: leave --size out")

    def check_unset(self, names: Iterable[str], reason: str) -> None:
        """Raise PixgraftError for the first of these options that is given."""
        default = type(self)()
        for name in names:
            value = getattr(self, name)
            if value != getattr(default, name):
                raise PixgraftError(f"--{name.replace('_', '-')} {value}: {reason}: leave it out")

    def check_bootstrap(self) -> None:
        """Raise PixgraftError for a number of replicates that gives no interval."""
        if self.bootstrap < 0 or self.bootstrap == 1:
            raise PixgraftError(f"--bootstrap {self.bootstrap}: choose 0 for no intervals, or a number from 2")


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions(MeasuringOptions):
    """What to measure, on what data, and how."""

    fake: Path | None = None
    """The images to measure."""
    fake_split: str = ""
    """The folder within --fake to use."""
    pairs: Literal["no", "name", "order"] = "no"
    """Measure each image against the reference of the same name, or in the same place."""
    row: Annotated[tuple[str, ...], UseAppendAction, arg(metavar="NAME=PATH")] = ()
    """A row of a protocol's table: a model of its task, or a folder or zip of outputs that another program made of the
    same inputs, named after them; give it once for each row. With the --out of an earlier call only new rows are
    measured."""
    inputs_only: Path | None = None
    """Measure nothing: write the inputs of the protocol to this new folder, for other programs."""
    protocol: str = ""
    """A paper's table or figure: i2ilr-table1 to -table4, -colour for models that graft; grit-table1 to -table3,
    -losses, -figure3, -figure7, -figure9 for models that synthesize; ome-table1 to -table4, -figure6 to -figure8,
    -figure11, -figure12, psp-consistency, invert-tradeoff for encoders; samples for generative priors."""
    classes: tuple[str, ...] = ()
    """For i2ilr-table1 to -table3: a model for each of these classes, folders within the splits. MODEL is a preset to
    train for each, or a folder with a run of each one's name."""
    train_split: str = "train"
    """For tables whose rows are trained (i2ilr-table4, -colour; grit-table3, -losses, -figure3; ome-table2, -table3,
    -figure6; --classes): the folder within --data for that."""
    set: Annotated[tuple[str, ...], UseAppendAction, arg(metavar="FIELD=VALUE")] = ()
    """For the same: a field of the preset as field=value; give it once for each field."""


@dataclass(frozen=True, kw_only=True)
class CardOptions(MeasuringOptions):
    """On what data a model is measured, by which labels, and how."""

    labels: Path | None = None
    """A CSV file with a column "name", the images' file names, and one for each attribute of the people in them; the
    default is the labels.csv beside the images, in the folder or zip."""
    by: tuple[str, ...] = ()
    """The attributes to group by, such as race gender age; the default is every column with 2 to 20 values."""


@dataclass(frozen=True, kw_only=True)
class NearestOptions:
    """What is compared with what."""

    data: Path
    """The data that a model was trained on: a folder or a zip."""
    split: str = "train"
    """The folder within --data that was trained on; empty: all."""
    held_out: str = ""
    """The folder within --data that was not, such as "test", for comparison."""
    size: int = 0
    """Fit all images to this side; 0: the first image's."""
    features: str = "squeezenet"
    """The feature network: squeezenet, inception, vgg16, or mobilefacenet for faces."""
    weights: tuple[str, ...] = ()
    """The network's weights as NAME=FILE; without it the cache or a download is used."""
    show: int = 24
    """Pairs in the picture, the nearest first."""
    out: Path
    """Folder for the picture and the distances."""
