"""What `pixgraft evaluate` takes, as one dataclass: the command line is made from it. Nothing heavy is imported."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import UseAppendAction, arg

from pixgraft.errors import PixgraftError


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to measure, on what, and how."""

    data: Path | None = None
    """The images that a model is measured on: a folder or a zip."""
    split: str = ""
    """The folder within --data to use, such as "test"."""
    real: Path | None = None
    """The set of reals; with a model the default is --data itself."""
    real_split: str = ""
    """The folder within --real, or else within --data, to use."""
    fake: Path | None = None
    """The images to measure."""
    fake_split: str = ""
    """The folder within --fake to use."""
    pairs: Literal["no", "name", "order"] = "no"
    """Measure each image against the reference of its name, or of its place."""
    size: int = 0
    """Fit every image to this side; 0: folders as they are, and a model's own size."""
    protocol: str = ""
    """A paper's table or figure: i2ilr-table1 to -table4; grit-table1 to -table3, -figure9; ome-table1 to -table4 and
    -figure7, -figure8, of which ome-table1 and -table4 take models of psp too; samples for generative priors."""
    metrics: tuple[str, ...] = ()
    """Instead of the usual ones, from: fd kd precision recall density coverage perceptual diversity l1 l2 psnr ssim
    piqe identity identity-other consistency consistency-largest seconds change-coarse change-middle change-fine
    spectrum. fd:NETWORK picks a network."""
    features: tuple[str, ...] = ()
    """From: squeezenet inception vgg16 lpips-alex lpips-vgg lpips-squeeze mobilefacenet irse50."""
    weights: tuple[str, ...] = ()
    """A network's weights as NAME=FILE; without it the cache or a download is used."""
    samples: int = 0
    """Outputs for each target, or a prior's samples; 0: as the protocol says."""
    project: bool = False
    """Move each output until it shrinks to its target within one grey level."""
    images: str = "images"
    """For grit: the images' folder within --data."""
    conditions: str = "masks"
    """For grit: the conditions' folder within --data; files are matched by their stems."""
    palette: Path | None = None
    """For grit, where label maps are in colours: a text file with a line "NAME R G B" for each class."""
    train_split: str = "train"
    """For i2ilr-table4, grit-table3, ome-table2 and -table3, whose rows are trained: the folder within --data for
    that."""
    set: Annotated[tuple[str, ...], UseAppendAction, arg(metavar="FIELD=VALUE")] = ()
    """For the same: a field of the preset as field=value; give it once for each field."""
    out: Path | None = None
    """The folder for result.json, report.md, report.html and the images; without it the table is only printed."""
    seed: int = 0
    """Of the sources drawn and of the bootstrap."""
    bootstrap: int = 200
    """Replicates of each 95 % interval; 0: none."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    quiet: bool = False
    """Show no progress."""

    def check_size(self, size: int) -> None:
        """PixgraftError if --size is another than the model's, `size`."""
        if self.size not in (0, size):
            raise PixgraftError(f"--size {self.size}: the model is measured at {size}: leave --size out")
