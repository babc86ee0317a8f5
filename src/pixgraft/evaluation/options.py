"""Options of `pixgraft evaluate`, as one dataclass: the command line is made from it. Nothing heavy is imported."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import UseAppendAction, arg

from pixgraft.errors import PixgraftError


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """What to measure, on what data, and how."""

    data: Path | None = None
    """The images that a model is measured on: a folder or a zip."""
    split: str = ""
    """The folder within --data to use, such as "test"."""
    real: Path | None = None
    """The set of reals; with a model the default is --data."""
    real_split: str = ""
    """The folder to use within --real, or within --data if there is no --real."""
    fake: Path | None = None
    """The images to measure."""
    fake_split: str = ""
    """The folder within --fake to use."""
    pairs: Literal["no", "name", "order"] = "no"
    """Measure each image against the reference of the same name, or in the same place."""
    size: int = 0
    """Fit every image to this side; 0: folders as they are, and a model's own size."""
    protocol: str = ""
    """A paper's table or figure: i2ilr-table1 to -table4 for models that graft; grit-table1 to -table3, -figure9 for
    models that synthesize; ome-table1 to -table4, -figure7, -figure8 for encoders; samples for generative priors."""
    metrics: tuple[str, ...] = ()
    """Metrics in place of the protocol's: fd kd precision recall density coverage perceptual diversity l1 l2 psnr ssim
    piqe identity identity-other consistency consistency-largest seconds change-coarse change-middle change-fine
    spectrum. fd:NETWORK picks a network."""
    features: tuple[str, ...] = ()
    """Feature networks: squeezenet inception vgg16 lpips-alex lpips-vgg lpips-squeeze mobilefacenet irse50."""
    weights: tuple[str, ...] = ()
    """A network's weights as NAME=FILE; without it the cache or a download is used."""
    samples: int = 0
    """Outputs for each target, or a prior's samples; 0: as the protocol says."""
    project: bool = False
    """Move each output until it shrinks to its target within one grey level."""
    images: str = "images"
    """For models that synthesize: the images' folder within --data."""
    conditions: str = "masks"
    """For models that synthesize: the conditions' folder within --data; files are matched by their stems."""
    palette: Path | None = None
    """For label maps in colours: a text file with a line "NAME R G B" for each class."""
    train_split: str = "train"
    """For i2ilr-table4, grit-table3, ome-table2 and -table3, whose rows are trained: the folder within --data for
    that."""
    set: Annotated[tuple[str, ...], UseAppendAction, arg(metavar="FIELD=VALUE")] = ()
    """For the same: a field of the preset as field=value; give it once for each field."""
    out: Path | None = None
    """The folder for result.json, report.md, report.html and the images; without it the table is only printed."""
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
        default = EvaluationOptions()
        for name in names:
            value = getattr(self, name)
            if value != getattr(default, name):
                raise PixgraftError(f"--{name.replace('_', '-')} {value}: {reason}: leave it out")
