"""Task "synthesize" in use: samples of a condition, in a style where the model takes one.

Everything random is a function of (seed, sample), so that a sample is the same in any company.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from PIL import Image
from torch import Tensor

from pixgraft.data.alignment import Placement
from pixgraft.data.conditions import ConditionKind, condition_kind
from pixgraft.data.grids import tiled
from pixgraft.data.images import decode, fit, from_uint8, to_tensor, to_uint8
from pixgraft.data.outputs import labels
from pixgraft.data.sources import open_sources
from pixgraft.engine.seeds import generator
from pixgraft.errors import PixgraftError
from pixgraft.methods.tasks import Synthesis, Synthesized
from pixgraft.models import Model
from pixgraft.pipelines.base import Job, Pipeline, Plan, Result, png
from pixgraft.pipelines.inputs import (
    FileInputs,
    InputFile,
    Picture,
    batch_of,
    condition_batch,
    input_entry,
    read_file,
    tensor_entry,
)
from pixgraft.pipelines.options import IN_FLOAT32, Computing, SynthesisOptions, at_least, one_of
from pixgraft.pipelines.photographs import (
    Photograph,
    aligned,
    aligned_setting,
    alignment_for,
    elsewhere,
    report_alignments,
)
from pixgraft.pipelines.strips import grid_of_strips

Vary = Literal["noise", "style"]
SHOWN = 8
"""Most samples of a strip."""


@dataclass(kw_only=True)
class SynthesisResult(Result):
    """K samples of each of N conditions: `pixels` (N * K, 3, S, S), the samples of a condition in a row."""

    samples: int
    """K."""
    condition: Tensor
    """The conditions as pictures (N, 3, S, S) in [-1, 1]."""
    components: dict[str, Tensor] = field(default_factory=dict)
    """Parts of the images by name, (N * K, 3, S, S) in [-1, 1]; a residual is 0 where nothing is added."""
    write_components: bool = False
    """Whether `save` writes the components too."""

    @property
    def mean(self) -> Tensor:
        """The mean image of each condition, uint8 (N, 3, S, S)."""
        return self._grouped.mean(1).round().to(torch.uint8)

    @property
    def deviation(self) -> Tensor:
        """The samples' standard deviation in each pixel, a mean over channels, (N, S, S) in grey levels."""
        deviation: Tensor = self._grouped.std(1, correction=0).mean(1)
        return deviation

    @property
    def scaled_deviation(self) -> Tensor:
        """The deviations as pictures uint8 (N, 1, S, S), in each of which the largest is white."""
        deviation = self.deviation.unsqueeze(1)
        return (deviation * (255 / deviation.amax((2, 3), keepdim=True).clamp_min(1e-12))).round().to(torch.uint8)

    @property
    def _grouped(self) -> Tensor:
        grouped: Tensor = self.pixels.double().unflatten(0, (-1, self.samples))
        return grouped

    def files(self, label: str, head: Mapping[str, Any]) -> dict[str, bytes]:
        """LABEL_0.png and so on; with `write_components` LABEL_0_NAME.png for each component; of several samples of one
        condition LABEL_mean.png, LABEL_deviation.png and LABEL_strip.png."""
        images = {f"{label}_{number}": pixels for number, pixels in enumerate(self.pixels)}
        if self.write_components:
            for name, parts in self.components.items():
                images |= {f"{label}_{number}_{name}": part for number, part in enumerate(parts)}
        if self.samples > 1 and len(self.condition) == 1:
            scaled = self.scaled_deviation[0]
            strip = [*self.pixels[:SHOWN], self.mean[0], scaled.expand(3, -1, -1)]
            tiles = torch.stack([self.condition[0], *map(from_uint8, strip)])
            images |= {f"{label}_mean": self.mean[0], f"{label}_deviation": scaled}
            images[f"{label}_strip"] = tiled(tiles.unsqueeze(0))
        return {f"{name}.png": png(pixels, head) for name, pixels in images.items()}


class SynthesisPipeline(Pipeline):
    """A model that makes samples of a condition."""

    Options: ClassVar[type] = SynthesisOptions
    takes: ClassVar[str] = (
        "it takes a condition: load({model!r})(condition, samples=4, seed=0), or "
        "pixgraft translate {model} --condition A --out OUT"
    )
    columns: ClassVar[dict[str, str]] = {"mean deviation": "deviation.mean", "largest": "deviation.largest"}

    def __init__(self, model: Model, device: torch.device, computing: Computing = IN_FLOAT32) -> None:
        super().__init__(model, device, computing)
        assert isinstance(model.method, Synthesis)
        self.method = model.method
        self.condition = self.method.condition
        self.image_size: int = self.method.config.image_size
        self.kind = condition_kind(self.condition)

    def __call__(
        self, condition: Picture, *, style: Picture | Sequence[Picture] | None = None, samples: int = 1, seed: int = 0,
        vary: Vary = "noise", align: bool = False,
    ) -> SynthesisResult:  # fmt: skip
        """Make `samples` images of a condition.

        `condition` is a path, a Pillow image or a tensor: uint8 (C, S, S) of class indices or levels, floats in [-1, 1]
        where it is a picture, or a batch. `style` is an image whose style is taken, or two to go between; without it
        one is drawn at random. `vary` says what differs between the samples: the noise, or, without a style, the style.
        `align` warps the largest face of each style, an image file, to the model's frame.

        Raises PixgraftError for what is no usable condition or style, and for samples below 1.
        """
        photographs: list[Photograph] = []
        if isinstance(condition, Tensor):
            conditions, entry = condition_batch(condition, self.condition), tensor_entry("condition", condition)
        else:
            name, data = read_file(condition, "condition")
            read, cut = self.read_condition(data, name)
            conditions, entry = read.unsqueeze(0), input_entry("condition", name, data)
            photographs.append(cut)
        given = [] if style is None else [style] if isinstance(style, str | Path | Image.Image | Tensor) else style
        self._check(samples, vary, len(given), align)
        to = alignment_for(self.model, align)
        styles = [self._style(each, to) for each in given]
        codes = [code for code, *_ in styles]
        results = [self.sample(each, codes, samples=samples, seed=seed, vary=vary) for each in conditions]
        result = SynthesisResult(
            pixels=torch.cat([each.pixels for each in results]),
            samples=samples,
            condition=torch.cat([each.condition for each in results]),
            components={
                name: torch.cat([each.components[name] for each in results]) for name in self.method.components
            },
            measures=results[0].measures if len(results) == 1 else {"images": [each.measures for each in results]},
        )
        report_alignments(result, photographs + [photograph for *_, photograph in styles if photograph])
        inputs = [entry, *(about for _, about, _ in styles)]
        reported: SynthesisResult = self.reported(
            result, seed=seed, settings=self._settings(samples, vary, len(codes), to), inputs=inputs
        )
        return reported

    def _style(self, picture: Picture, to: Placement | None) -> tuple[Tensor, dict[str, str], Photograph | None]:
        """The code (D,) of a style, its entry in a report, and what was read, if it was a file."""
        if isinstance(picture, Tensor):
            if to is not None:
                raise PixgraftError("align is for image files: align the style's tensor first")
            images = batch_of(picture, "style", (3, self.image_size, self.image_size))
            if len(images) > 1:
                raise PixgraftError(f"the style is a batch of {len(images)} images: give one, or two to go between")
            return self.style_code(images[0]), tensor_entry("style", picture), None
        name, data = read_file(picture, "style")
        photograph = aligned(decode(data, name), to, self.image_size, "style", name)
        return self.picture_code(photograph), input_entry("style", name, data), photograph

    def picture_code(self, photograph: Photograph) -> Tensor:
        """The style code (D,) of a photograph."""
        return self.style_code(to_tensor(fit(photograph.image, self.image_size)))

    def _check(self, samples: int, vary: str, styles: int, align: bool) -> None:
        """Raise PixgraftError for settings that do not go together."""
        at_least("samples", samples)
        one_of("vary", vary, ("noise", "style"))
        if styles and not self.method.style_dim:
            raise PixgraftError(f"style: {self.model.name} takes no style: leave it out")
        if align and not styles:
            raise PixgraftError("align: moves the face of a style image: give one, or leave it out")
        if vary == "style" and styles:
            raise PixgraftError("vary style: draws styles at random: leave the style out, or vary the noise")
        if styles > 2:
            raise PixgraftError(f"style: {styles} images: give one, or two to go between")
        if styles == 2 and samples < 2:
            raise PixgraftError("style: two images to go between in 1 sample: ask for 2 samples or more")

    def _settings(self, samples: int, vary: str, styles: int, to: Placement | None) -> dict[str, Any]:
        style = "given" if styles else "random" if self.method.style_dim else "none"
        vary = vary if styles < 2 else "between the styles"
        settings = {"samples": samples, "vary": vary, "style": style, "components": False}
        return settings | ({} if to is None else {"aligned": aligned_setting(to)})

    def read_condition(self, data: bytes, name: str, kind: ConditionKind | None = None) -> tuple[Tensor, Photograph]:
        """A file as uint8 (C, S, S), and what it was cut from.

        Raises PixgraftError, which names the file, if it is unusable.
        """
        kind = kind or self.kind
        picture, notes = kind.decode_noted(data, name)
        condition = kind.fit(picture, self.condition.size)
        if kind.has_classes and condition.amin() == condition.amax():
            raise PixgraftError(f"{name}: class {int(condition.amin())} alone, which says nothing: mend or remove it")
        photograph = aligned(picture, None, self.condition.size, "condition", name)
        photograph.notes.extend(notes)
        return condition, photograph

    def style_code(self, image: Tensor) -> Tensor:
        """The style code (D,) of an image (3, S, S) in [-1, 1]."""
        with self.autocast():
            code: Tensor = self.computed.encode_style(image.unsqueeze(0).to(self.device))
        return code[0].cpu()

    def sample(
        self, condition: Tensor, styles: Sequence[Tensor], *, samples: int, seed: int = 0, vary: str = "noise"
    ) -> SynthesisResult:
        """`samples` images of one condition, uint8 (C, S, S), in styles of codes (D,) as `__call__` takes images."""
        if len(styles) == 2:
            codes = [torch.lerp(styles[0], styles[1], number / max(samples - 1, 1)) for number in range(samples)]
        elif vary == "style" and not styles:
            codes = [self._random_code(seed, number) for number in range(samples)]
        else:
            codes = [styles[0] if styles else self._random_code(seed, 0)]
        # One at a time: PyTorch's kernels, and so the last bits, depend on the size of a batch.
        noises = [self._noise(seed, number) for number in range(samples if len(codes) == 1 else 1)]
        held = condition.unsqueeze(0).to(self.device)
        outputs: list[Synthesized] = []
        with self.autocast():
            for code in codes:
                outputs += self.computed.samples(held, code.unsqueeze(0).to(self.device), noises)
        result = SynthesisResult(
            pixels=to_uint8(torch.cat([each.image for each in outputs])).cpu(),
            samples=samples,
            condition=self.condition.pictured(condition.unsqueeze(0)),
            components={
                name: torch.cat([each.components[name].float().cpu() for each in outputs])
                for name in self.method.components
            },
        )
        if samples > 1:
            deviation = result.deviation
            result.measures["deviation"] = {
                "mean": round(float(deviation.mean()), 4),
                "largest": round(float(deviation.max()), 4),
                "unit": "grey levels; the map is scaled so that its largest is white",
            }
        return result

    def _random_code(self, seed: int, number: int) -> Tensor:
        return self.method.random_style(1, generator(seed, "style", number))[0].cpu()

    def _noise(self, seed: int, number: int) -> list[Tensor]:
        return [each.to(self.device) for each in self.method.draw_noise(1, generator(seed, "noise", number))]

    # --- files ---

    def plan(self, options: SynthesisOptions) -> Plan:
        if not options.condition:
            raise PixgraftError(f"{self.model.name}: say what to translate: {self.usage}")
        kind = condition_kind(self.condition, options.palette, nearest=options.nearest)
        self._check(options.samples, options.vary, len(options.styles), options.align)
        to = alignment_for(self.model, options.align)
        if options.components and not self.method.components:
            raise PixgraftError(f"--components: {self.model.name} makes images without parts: leave it out")
        source = open_sources(options.condition)
        styles = [_open_style(path) for path in options.styles]
        pictures = [picture for picture, _ in styles]
        photographs = [
            aligned(picture, to, self.image_size, "style", str(path))
            for path, picture in zip(options.styles, pictures, strict=True)
        ]
        codes = [self.picture_code(each) for each in photographs]
        files = FileInputs("condition", source, partial(self.read_condition, kind=kind))
        named = labels(source.names)
        style_files = [file for _, file in styles]

        def prepare(name: str) -> tuple[Tensor, Photograph]:
            condition, cut = files[name]
            for path, picture in zip(options.styles, pictures if to is None else (), strict=to is None):
                _check_aspect(path, picture, name, cut.image.size)
            return condition, cut

        def make(prepared: list[tuple[Tensor, Photograph]]) -> Sequence[Result]:
            results = [
                self.sample(condition, codes, samples=options.samples, seed=options.seed, vary=options.vary)
                for condition, _ in prepared
            ]
            for result, (_, cut) in zip(results, prepared, strict=True):
                result.write_components = options.components
                report_alignments(result, [cut, *photographs])
            return results

        settings = self._settings(options.samples, options.vary, len(codes), to) | {"components": options.components}
        settings |= kind.settings
        jobs = [
            Job(label, self._outputs(label, options), partial(prepare, name), (files.file(name), *style_files))
            for name, label in named.items()
        ]
        paths = [*options.condition, *options.styles]

        def hint() -> str:
            return elsewhere(
                None if options.align else self.model.frame, [partial(Image.Image.copy, each) for each in pictures]
            )

        read = [options.palette] if options.palette else []
        return Plan(
            jobs, make, settings, options.seed, paths=paths, read=read, skipped=source.skipped,
            summary=grid_of_strips(options.grid, jobs[0].outputs), superseded=() if options.grid else ("grid",),
            hint=hint,
        )  # fmt: skip

    def _outputs(self, label: str, options: SynthesisOptions) -> tuple[str, ...]:
        """Names of the files of one condition; those of different labels differ, since a number follows the label."""
        parts = ["", *(f"_{name}" for name in self.method.components)] if options.components else [""]
        whole = ["mean", "deviation", "strip"] if options.samples > 1 else []
        names = [f"{label}_{number}{part}.png" for part in parts for number in range(options.samples)]
        return (*names, *(f"{label}_{each}.png" for each in whole))


def _open_style(path: Path) -> tuple[Image.Image, InputFile]:
    """A style image, and its file as a job's input."""
    name, data = read_file(path, "style")
    return decode(data, name), InputFile("style", path.name, lambda: hashlib.sha256(data).hexdigest())


def _check_aspect(path: Path, picture: Image.Image, name: str, size: tuple[int, int]) -> None:
    if picture.width * size[1] != picture.height * size[0]:
        raise PixgraftError(
            f"{path}: a style image of {picture.width} x {picture.height} for a condition ({name}) of "
            f"{size[0]} x {size[1]}: crop one of them to the other's shape"
        )
