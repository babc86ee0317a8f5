"""Options of each task, as dataclasses: the command line and its help are made from them. Nothing heavy is imported."""

import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import UseAppendAction, arg

from pixgraft.errors import PixgraftError
from pixgraft.inversion.settings import SearchSettings

Precision = Literal["float32", "bfloat16"]
EngineName = Literal["torch", "onnxruntime", "openvino"]
Faces = Literal["largest", "all"]


@dataclass(frozen=True)
class Computing:
    """How a pipeline computes."""

    precision: Precision = "float32"
    engine: EngineName = "torch"

    def settings(self) -> dict[str, str]:
        """What differs from the default, for reports."""
        defaults = asdict(Computing())
        return {name: value for name, value in asdict(self).items() if value != defaults[name]}


IN_FLOAT32 = Computing()
"""PyTorch in float32."""


def at_least(name: str, number: object, least: int = 1) -> None:
    """Raise PixgraftError, which names the option, unless it is a whole number from `least` on."""
    if not isinstance(number, int) or isinstance(number, bool) or number < least:
        raise PixgraftError(f"{name} {number}: choose a number from {least}")


def one_of(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise PixgraftError, which names the option, unless the value is one of the choices."""
    if value not in choices:
        raise PixgraftError(f"{name} {value!r}: choose one of {', '.join(choices)}")


def amounts(text: str, steps: int | None) -> list[float]:
    """The amounts that "2" or "-3..3" names, the latter in 7 or `steps` steps. Raises PixgraftError for others."""
    number = r"([+-]?\d{1,4}(?:\.\d{1,6})?)"
    if (match := re.fullmatch(rf"{number}(?:\.\.{number})?", text, re.ASCII)) is None:
        raise PixgraftError(f"amount {text}: choose a number such as 2, or a way such as -3..3")
    first, last = float(match[1]), float(match[2] or match[1])
    if match[2] is None and steps is not None:
        raise PixgraftError(f"steps {steps}: with one amount there is one image: leave it out, or give a way as -3..3")
    count = 1 if match[2] is None else steps or 7
    return [first + (last - first) * place / max(count - 1, 1) for place in range(count)]


def check_direction(direction: Path | None, **given: object) -> None:
    """Raise PixgraftError if one of the options that go with a direction is given without one."""
    for name, value in given.items():
        if direction is None and value not in (None, ""):
            raise PixgraftError(f"{name} {value}: needs a direction: give one, or leave it out")


LAYERS = {"coarse": (0, 3), "middle": (4, 7), "fine": (8, None)}
"""First and last layer of sides up to 8 pixels, of 16 and 32, and of all larger ones (Karras et al. 2019, Figure 3)."""


def layer_range(text: str, count: int) -> tuple[int, int]:
    """The first and the last of `count` layers that "coarse", "middle", "fine", "4-7" or "5" names.

    Raises PixgraftError if there are no such layers.
    """
    match = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", text, re.ASCII)
    if text in LAYERS:
        first, end = LAYERS[text]
        last = count - 1 if end is None else min(end, count - 1)
    elif match:
        first, last = int(match[1]), int(match[2] or match[1])
    else:
        raise PixgraftError(f"layers {text}: choose coarse, middle, fine or a range such as 4-7")
    if not first <= last < count:
        begins = f" begins at {first}, and" if text in LAYERS else ""
        raise PixgraftError(f"layers {text}:{begins} the model has the layers 0 to {count - 1}: choose among them")
    return first, last


@dataclass(frozen=True, kw_only=True)
class GraftOptions:
    """Options of models that graft a source's detail onto a coarse target."""

    source: tuple[Path, ...] = ()
    """Sharp images: files, folders (searched) or zips; - is the standard input."""
    target: tuple[Path, ...] = ()
    """Coarse images, or full-size ones, which are shrunk: files, folders or zips; - is the standard input."""
    pairs: Literal["all", "name", "order"] = "all"
    """Every source with every target, or pairs matched by file name or by order."""
    align: bool = False
    """Warp the largest face of each photograph to where the model's training images have theirs; one without fails."""
    faces: Faces | None = None
    """Align the largest face of each photograph, as --align does, or make an output of each face of a target; of a
    source, where targets are tiny."""
    paste_back: bool = False
    """Put each output into the target's photograph at its own size; into the source's, where the target is tiny."""
    project: bool = False
    """Move each output until it shrinks to its target within one grey level."""
    domain: str = ""
    """For models of several domains: that of the targets; without it a folder of its name in each target's path."""
    grid: bool = False
    """Also write grid.png: sources across, targets down, up to 32 of each."""
    seed: int = 0
    """Recorded in the reports; nothing is drawn at random."""


@dataclass(frozen=True, kw_only=True)
class SynthesisOptions:
    """Options of models that make samples of a condition."""

    condition: tuple[Path, ...] = ()
    """Label maps, sketches or images, as the model takes them: files, folders (searched) or zips; - is the standard
    input."""
    palette: Path | None = None
    """For label maps in colours: a text file with a line "NAME R G B" for each class."""
    nearest: bool = False
    """With a palette: a colour that is not in it counts as the nearest class, as at smoothed edges."""
    style: Annotated[tuple[tuple[Path, ...], ...], UseAppendAction, arg(metavar="IMAGE [IMAGE]")] = ()
    """An image whose style is taken, or two to go between; without it a style is drawn at random."""
    align: bool = False
    """Warp the largest face of each style image to where the model's training images have theirs."""
    samples: int = 1
    """Images of each condition. Several come with their mean and a map of their deviation."""
    vary: Literal["noise", "style"] = "noise"
    """What differs between the samples: the noise, or the style where none is given."""
    components: bool = False
    """Also write the parts of each sample, such as reconstruction and residual."""
    grid: bool = False
    """Also write grid.png: the strips of all conditions below each other, up to 32; for 2 samples or more."""
    seed: int = 0
    """Seed of noise and random styles."""

    @property
    def styles(self) -> tuple[Path, ...]:
        """The style images, in one tuple."""
        return tuple(path for paths in self.style for path in paths)


@dataclass(frozen=True, kw_only=True)
class CodesOptions:
    """Options of what finds the codes of images: models that encode, and searches in a prior."""

    condition: tuple[Path, ...] = ()
    """Images, label maps or sketches, as the model takes them: files, folders (searched) or zips; - is the standard
    input."""
    steps: int | None = None
    """Refining steps; the default is the number used in training."""
    factor: int = 1
    """For models of low-resolution images: shrink the images by this factor first."""
    align: bool = False
    """Warp the largest face of each photograph to where the model's training images have theirs; one without fails. A
    model that does not know where gets FFHQ's crop."""
    faces: Faces | None = None
    """Align the largest face of each photograph, as --align does, or all faces, which gives an output for each."""
    paste_back: bool = False
    """Put each output into the photograph that it was cut from, at the photograph's own size."""
    direction: Path | None = None
    """Move the codes along a direction: a file that `pixgraft directions` wrote for the prior."""
    name: str = ""
    """The direction in that file, or how its name begins, where there are several."""
    amount: float | None = None
    """How far along the direction, in standard deviations of codes; the default is 2, and below 0 is the other way."""
    seed: int = 0
    """Seed of the random styles."""


@dataclass(frozen=True, kw_only=True)
class EncodingOptions(CodesOptions):
    """Options of models that encode images or conditions into a generator's codes."""

    codes: Path | None = None
    """In place of conditions: a file of codes that an earlier call saved, which becomes an image again."""
    palette: Path | None = None
    """For label maps in colours: a text file with a line "NAME R G B" for each class."""
    nearest: bool = False
    """With a palette: a colour that is not in it counts as the nearest class, as at smoothed edges."""
    samples: int = 1
    """Images of each condition; all but the first have random styles in their fine layers."""
    mix_from: int | None = None
    """The first layer in which samples differ: by default layer 8 of 18, and the middle one of fewer."""
    mix_alpha: float = 1.0
    """The random style's share in these layers, above 0 and up to 1; the rest is the encoder's own code."""
    project: bool = False
    """For models of low-resolution images: move each output until it shrinks to its input within one grey level. Codes
    and strips stay as they are."""
    grid: bool = False
    """Also write grid.png: the strips of all conditions below each other, up to 32."""


@dataclass(frozen=True, kw_only=True)
class InversionOptions(SearchSettings, CodesOptions):
    """Options of searches in a prior."""

    condition: tuple[Path, ...] = field()
    """Images to search for: files, folders (searched) or zips; - is the standard input. One smaller than the prior's is
    what the found image is to shrink to, if the sides divide."""
    steps: int | None = None
    """Steps of the search: by default 1000 (wplus, single), 450 (pti), 100 (pulse) or 3000 (mganprior)."""
    tuning: int | None = None
    """For pti: steps in which the generator is tuned; the default is 350."""
    start: str | None = None
    """Begin at the codes of a model that encodes, such as a run of ome or psp on the same prior."""
    factor: int = 1
    """Shrink the images by this factor first; the found image is to shrink to the same."""
    seed: int = 0
    """Seed of what the search draws at random."""


@dataclass(frozen=True, kw_only=True)
class SampleOptions:
    """Options of generative priors."""

    count: int | None = None
    """Number of images: by default 16, or as many as the latents."""
    seed: int | None = None
    """Seed of codes and random noise; the default is 0, or what the latents record."""
    truncation: float | None = None
    """Below 1: likelier and less varied images, for models with w; the default is 1, or what the latents record."""
    noise: Literal["stored", "random", "none"] | None = None
    """Noise maps: those stored with the weights (the default), new ones for each image, or none."""
    latents: Path | None = None
    """A latents.safetensors to make images of: its z, or its w if it has no z."""


@dataclass(frozen=True, kw_only=True)
class MixOptions:
    """Options of a grid of mixed styles."""

    rows: int = 4
    """Images on the left: the samples of the seed from 0 on."""
    columns: int = 4
    """Images on top: the next samples."""
    layers: str = "coarse"
    """Layers taken from the column: coarse (layers 0-3), middle (4-7), fine (from 8) or a range such as 4-7."""
    seed: int = 0
    """Seed of the samples, as `pixgraft sample` draws them."""
    truncation: float = 1.0
    """Below 1: likelier and less varied images."""


@dataclass(frozen=True, kw_only=True)
class WalkOptions:
    """Options of a walk from sample to sample."""

    points: int = 4
    """Samples to pass: those of the seed from 0 on."""
    frames: int = 25
    """Frames from each sample to the next."""
    seed: int = 0
    """Seed of the samples, as `pixgraft sample` draws them."""
    truncation: float = 1.0
    """Below 1: likelier and less varied images, for models with w."""
    loop: bool = True
    """Return to the first sample at the end."""


@dataclass(frozen=True, kw_only=True)
class DirectionOptions:
    """Options of finding directions in a prior's codes."""

    by: Literal["sefa", "labels"]
    """sefa: from the weights of the generator alone. labels: between the codes of images with a label and of others."""
    layers: str | None = None
    """Layers to change: coarse (layers 0-3), middle (4-7), fine (from 8) or a range such as 4-7. By default each of
    these groups by itself for sefa, and all layers for labels."""
    count: int = 3
    """For sefa: directions of each group of layers."""
    codes: Path | None = None
    """For labels: a folder of codes that `translate` or `invert` wrote."""
    csv: Path | None = None
    """For labels: a table with a column "name", the images' file names, and a column for each attribute."""
    label: Annotated[tuple[str, ...], UseAppendAction, arg(metavar="COLUMN=VALUE[,VALUE]")] = ()
    """For labels: the values that the direction leads to, away from all others; give it once for each direction."""
    samples: int = 4
    """Rows of each sheet: samples of the seed, or the first codes of the folder."""
    amount: float = 3.0
    """The largest amount in the sheets, in standard deviations of codes along the direction."""
    seed: int = 0
    """Seed of the samples, and of the choice of codes that are held out."""


@dataclass(frozen=True, kw_only=True)
class EditOptions:
    """Options of editing codes."""

    steps: int | None = None
    """Images from the first to the second, both included: by default 8, or 1 with --layers; along a direction 7; 50 of
    a film."""
    layers: str | None = None
    """Take the second's codes, or the direction's, in these layers alone: coarse (layers 0-3), middle (4-7), fine (from
    8) or a range such as 4-7."""
    direction: Path | None = None
    """In place of the second codes: a file that `pixgraft directions` wrote."""
    name: str = ""
    """The direction in that file, or how its name begins, where there are several."""
    amount: str | None = None
    """How far to go along the direction: a number, or a way such as -3..3, which is the default."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options of every task that writes files."""

    out: Path
    """Folder for the outputs; for one output also a file that ends in .png, .jpg, .webp, .avif or .jp2, or - for a PNG
    on the standard output."""
    strict: bool = False
    """Refuse before anything is written if an input is unusable; without it the other inputs are processed."""
    again: bool = False
    """Process every input again; without it what an earlier run finished is skipped."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    threads: int = 0
    """Threads of the CPU; 0: as PyTorch chooses. Another number can move single pixels by one level."""
    precision: Precision = "float32"
    """bfloat16 is faster on processors and GPUs that have it, and moves pixels by some levels: docs/performance.md."""
    engine: EngineName = "torch"
    """onnxruntime and openvino compute on the CPU alone, faster; pixels move by one level at most."""
    quiet: bool = False
    """Show no progress and no table."""
