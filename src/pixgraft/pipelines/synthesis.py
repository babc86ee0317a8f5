"""Conditions in, samples out: a method that makes an image of a label map, sketch or image, used on files.

Each condition gives `samples` images; with several, also their mean and a map of their deviation (GRIT, Figure 7); and
a report. Everything random is a function of (seed, sample), so that a sample is the same in any company.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from pixgraft.data.conditions import ConditionKind, palette_kind
from pixgraft.data.grids import tiled
from pixgraft.data.images import decode, fit, png_bytes, to_tensor, to_uint8
from pixgraft.data.outputs import check_outside, check_spared, labels, output_folder, remove_earlier
from pixgraft.data.sources import open_source
from pixgraft.engine.distributed import World
from pixgraft.engine.seeds import generator
from pixgraft.errors import PixgraftError
from pixgraft.files import write_bytes
from pixgraft.methods.grit import GRIT
from pixgraft.models import Model
from pixgraft.version import __version__

Vary = Literal["noise", "style"]


@dataclass(frozen=True)
class Samples:
    """What a condition became: K samples of side S, with their components where the method has them."""

    images: Tensor
    """uint8 (K, 3, S, S)."""
    reconstruction: Tensor
    """(K, 3, S, S) in [-1, 1]."""
    residual: Tensor | None
    """(K, 3, S, S) in [-1, 1], 0 where nothing is added; None of a model without one."""

    @property
    def mean(self) -> Tensor:
        """The mean image, (3, S, S) uint8."""
        return self.images.double().mean(0).round().to(torch.uint8)

    @property
    def deviation(self) -> Tensor:
        """The samples' standard deviation in each pixel, a mean over channels, (S, S) in grey levels."""
        return self.images.double().std(0, correction=0).mean(0)


class Synthesizer:
    """A model that makes images of conditions, ready for files."""

    def __init__(self, model: Model, device: torch.device, *, palette: Path | None = None) -> None:
        if not isinstance(model.method, GRIT):
            raise PixgraftError(f"{model.name}: a model of {model.method.name}, which takes no --condition")
        self.model, self.method, self.device = model, model.method, device
        config = self.method.config
        self.image_size: int = config.image_size
        if palette is not None:
            if config.condition != "labels":
                taken = f"{model.name} takes conditions of kind {config.condition}"
                raise PixgraftError(f"--palette: {taken}, not labels: leave it out")
            self.kind = palette_kind(palette, classes=config.classes)
        else:
            classes = config.classes if config.condition == "labels" else 0
            self.kind = ConditionKind(kind=config.condition, classes=classes)

    def condition(self, data: bytes, name: str) -> tuple[Tensor, tuple[int, int]]:
        """A file as uint8 (C, S, S), and its own width and height; PixgraftError, which names it, if it is unusable."""
        picture = self.kind.decode(data, name)
        condition = self.kind.fit(picture, self.image_size)
        if self.kind.has_classes and condition.amin() == condition.amax():
            raise PixgraftError(f"{name}: class {int(condition.amin())} alone, which says nothing: mend or remove it")
        return condition, picture.size

    def style(self, picture: Image.Image) -> Tensor:
        """The style code (D,) of any picture."""
        return self.code(to_tensor(fit(picture, self.image_size)))

    def code(self, image: Tensor) -> Tensor:
        """The style code (D,) of an image (3, S, S) in [-1, 1]."""
        return self.method.style_of(image.unsqueeze(0).to(self.device))[0].cpu()

    def sample(
        self, condition: Tensor, styles: list[Tensor], *, samples: int, seed: int = 0, vary: Vary = "noise"
    ) -> Samples:
        """`samples` images of one condition, uint8 (C, S, S).

        `styles` are codes: none draws them at random, one is kept, between two the samples go evenly. `vary` says what
        differs between the samples of one style: the noise, or (without a style given) the style.
        """
        if len(styles) == 2:
            codes = [torch.lerp(styles[0], styles[1], number / max(samples - 1, 1)) for number in range(samples)]
        elif vary == "style" and not styles:
            codes = [self._random_code(seed, number) for number in range(samples)]
        else:
            codes = [styles[0] if styles else self._random_code(seed, 0)]
        # One at a time: PyTorch's kernels, and so the last bits, depend on the size of a batch.
        noises = [self._noise(seed, number) for number in range(samples if len(codes) == 1 else 1)]
        held = condition.unsqueeze(0).to(self.device)
        made = [
            output for code in codes for output in self.method.samples(held, code.unsqueeze(0).to(self.device), noises)
        ]
        residuals = [each.residual.float().cpu() for each in made if each.residual is not None]
        return Samples(
            to_uint8(torch.cat([each.image for each in made])).cpu(),
            torch.cat([each.reconstruction.float().cpu() for each in made]),
            torch.cat(residuals) if residuals else None,
        )

    def _random_code(self, seed: int, number: int) -> Tensor:
        return self.method.random_style(1, generator(seed, "style", number))[0].cpu()

    def _noise(self, seed: int, number: int) -> list[Tensor]:
        return [each.to(self.device) for each in self.method.draw_noise(1, generator(seed, "noise", number))]


@dataclass(frozen=True)
class Made:
    """What became of one condition: its report, or why there is none."""

    condition: str
    report: dict[str, Any] | None
    failure: str = ""


def synthesize_files(
    synthesizer: Synthesizer,
    condition: str | Path,
    out: Path,
    *,
    styles: tuple[Path, ...] = (),
    samples: int = 1,
    seed: int = 0,
    vary: Vary = "noise",
    components: bool = False,
    skip_bad: bool = False,
    world: World | None = None,
    on_done: Callable[[Made], None] = lambda made: None,
) -> list[Made]:
    """Make the samples of every condition in a file, folder or zip; returns what became of this process's share.

    `out` gets NAME_0.png and so on, of several samples also NAME_mean.png, NAME_deviation.png and NAME_strip.png, with
    `components` each sample's reconstruction and residual, and last NAME.json: without it a condition is not finished,
    as after ctrl-C. What an earlier NAME.json lists is removed first.

    Raises PixgraftError if nothing can be done, and for the first unusable condition of this process's share unless
    `skip_bad`, before it writes anything.
    """
    world = world or World(0, 1, 0)
    if vary == "style" and styles:
        raise PixgraftError("--vary style: draws styles at random: leave --style out, or vary the noise")
    if samples < 1:
        raise PixgraftError(f"--samples {samples}: choose a number from 1")
    if len(styles) > 2:
        raise PixgraftError(f"--style: {len(styles)} images: give one, or two to go between")
    if len(styles) == 2 and samples < 2:
        raise PixgraftError(f"--style: two images to go between in {samples} sample: give --samples 2 or more")
    source = open_source(condition)
    check_outside(out, source.path)
    read_styles = [_style(path) for path in styles]
    codes = [synthesizer.style(picture) for picture, _ in read_styles]
    settings = {
        **synthesizer.model.about,
        "seed": seed,
        "samples": samples,
        "vary": vary if len(styles) < 2 else "between the styles",
        "style": [about for _, about in read_styles] or "drawn at random",
    }

    def usable(name: str) -> tuple[Tensor, dict[str, str]]:
        data = source.read(name)
        read, size = synthesizer.condition(data, name)
        for path, (picture, _) in zip(styles, read_styles, strict=True):
            _check_aspect(path, picture, name, size)
        return read, {"name": name, "sha256": hashlib.sha256(data).hexdigest()}

    names = source.names[world.rank :: world.size]
    if not skip_bad:
        for name in names:  # which costs little beside the networks
            usable(name)
    named = labels(source.names)
    images = {name: _names(synthesizer, label, samples, components) for name, label in named.items()}
    written = {file for files in images.values() for file in files}
    inputs = [source.path, *styles]
    check_spared(inputs, [out / file for file in written])
    results = []
    for name in names:
        try:
            read, about = usable(name)
        except PixgraftError as error:
            if not skip_bad:
                raise
            made = Made(name, None, str(error))
        else:
            output_folder(out)
            sampled = synthesizer.sample(read, codes, samples=samples, seed=seed, vary=vary)
            remove_earlier(out, named[name], written, inputs)
            found = _write(synthesizer, read, sampled, out, images[name], components=components)
            report = {**settings, "condition": about, **found}
            write_bytes(out / f"{named[name]}.json", (json.dumps(report, indent=1) + "\n").encode())
            made = Made(name, report)
        results.append(made)
        on_done(made)
    return results


def _style(path: Path) -> tuple[Image.Image, dict[str, str]]:
    """A style image, and what a report says of it."""
    source = open_source(path)
    if len(source.names) != 1:
        raise PixgraftError(f"{path}: {len(source.names)} images: a style is one image")
    data = source.read(source.names[0])
    return decode(data, str(path)), {"name": path.name, "sha256": hashlib.sha256(data).hexdigest()}


def _check_aspect(path: Path, picture: Image.Image, name: str, size: tuple[int, int]) -> None:
    if picture.width * size[1] != picture.height * size[0]:
        raise PixgraftError(
            f"{path}: a style image of {picture.width} x {picture.height} for a condition ({name}) of "
            f"{size[0]} x {size[1]}: crop one of them to the other's shape"
        )


def _names(synthesizer: Synthesizer, label: str, samples: int, components: bool) -> list[str]:
    """What the images of one condition are named, in the order of `_write`.

    Those of different labels are different: what follows a label shows where it ends.
    """
    parts = ["", "_reconstruction", "_residual"] if components else [""]
    if not synthesizer.method.config.residual:
        parts = parts[:2]
    whole = ["mean", "deviation", "strip"] if samples > 1 else []
    return [
        *(f"{label}_{number}{part}.png" for part in parts for number in range(samples)),
        *(f"{label}_{each}.png" for each in whole),
    ]


def _write(
    synthesizer: Synthesizer, condition: Tensor, sampled: Samples, out: Path, names: list[str], *, components: bool
) -> dict[str, Any]:
    """The images of one condition, so named; returns what its report says of them."""
    about = {
        "Software": f"pixgraft {__version__}",
        "Description": f"Synthesised by a neural network (pixgraft, {synthesizer.method.name}); not a photograph.",
    }
    images = [*sampled.images]
    if components:
        images += map(to_uint8, sampled.reconstruction)
        images += map(to_uint8, sampled.residual if sampled.residual is not None else ())
    found: dict[str, Any] = {"outputs": names}
    if len(sampled.images) > 1:
        deviation = sampled.deviation
        largest = float(deviation.max())
        scaled = (deviation * (255 / largest if largest else 0)).round().to(torch.uint8)
        shown = synthesizer.method.shown(condition.unsqueeze(0)).cpu()
        strip = [shown[0], *(image / 127.5 - 1 for image in sampled.images[:8]), sampled.mean / 127.5 - 1]
        strip.append((scaled / 127.5 - 1).expand(3, -1, -1))
        images += [sampled.mean, scaled.unsqueeze(0), to_uint8(tiled(torch.stack(strip).unsqueeze(0)))]
        found["deviation"] = {
            "mean": round(float(deviation.mean()), 4),
            "largest": round(largest, 4),
            "unit": "grey levels; the map is scaled so that its largest is white",
        }
    for name, pixels in zip(names, images, strict=True):
        write_bytes(out / name, png_bytes(pixels, about))
    return found
