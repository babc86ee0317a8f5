"""Task "encode" in use: conditions to codes of a generator, and images of the codes.

One condition at a time: PyTorch chooses its kernels by a batch's size, and an image's bytes should not depend on its
company. Shape letters are those of `methods/tasks.py`; s is the side of a condition.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from pixgraft.data.alignment import Placement
from pixgraft.data.conditions import ConditionKind, condition_kind
from pixgraft.data.degrade import Degradation
from pixgraft.data.images import from_uint8, to_uint8
from pixgraft.data.outputs import labels
from pixgraft.data.sources import open_sources
from pixgraft.engine.seeds import generator
from pixgraft.errors import PixgraftError
from pixgraft.methods.tasks import Encoding
from pixgraft.metrics.consistency import OPERATOR, consistency, figures, project
from pixgraft.models import Model
from pixgraft.pipelines.base import Job, Pipeline, Plan, Result
from pixgraft.pipelines.codes import CODES, SavedCodes, read_codes, tuned
from pixgraft.pipelines.condition_files import Condition, read_conditions
from pixgraft.pipelines.encoding_result import SHOWN_SIDE, EncodingResult, joined
from pixgraft.pipelines.inputs import FileInputs, Photo, Picture, condition_batch, input_entry, read_file, tensor_entry
from pixgraft.pipelines.move import Move, read_move
from pixgraft.pipelines.options import (
    IN_FLOAT32,
    CodesOptions,
    Computing,
    EncodingOptions,
    Faces,
    at_least,
)
from pixgraft.pipelines.pasting import PastedResult, together, whole_settings
from pixgraft.pipelines.photographs import (
    aligned_setting,
    alignment_for,
    elsewhere,
    picture_of,
    report_alignments,
)
from pixgraft.pipelines.strips import STRIP, grid_of_strips

PHOTOGRAPHS = ("image", "lr")
"""Kinds of condition in which there may be a face to align."""
FINE = 8
"""Default first layer of mixed styles: the first above 32 pixels, and of a generator of 1024 about the middle one."""


@dataclass(frozen=True)
class Steps:
    """Codes and images from the start to the last of T steps."""

    codes: Tensor
    """(T + 1, M, D) float32, on the CPU."""
    images: Tensor
    """uint8 (T + 1, 3, S, S)."""

    @property
    def changes(self) -> list[float]:
        """How far each step moved the codes: the root mean square over all their numbers."""
        return self.codes.diff(dim=0).double().square().mean((1, 2)).sqrt().tolist()


Maker = Callable[[Sequence[Condition]], Sequence[EncodingResult]]
"""Makes the results of conditions."""


class EncodingPipeline(Pipeline):
    """A model that encodes conditions into a generator's codes."""

    Options: ClassVar[type] = EncodingOptions
    takes: ClassVar[str] = (
        "it takes an image or another condition: load({model!r})(image), or "
        "pixgraft translate {model} --condition A --out OUT"
    )
    columns: ClassVar[dict[str, str]] = {
        "codes changed by": "codes_changed_by",
        "mean difference": "outputs.0.difference.mean",
        "largest": "outputs.0.difference.largest",
    }

    def __init__(self, model: Model, device: torch.device, computing: Computing = IN_FLOAT32) -> None:
        super().__init__(model, device, computing)
        assert isinstance(model.method, Encoding)
        self.method = model.method
        self.condition = self.method.condition
        self.size, self.image_size = self.condition.size, int(self.method.config.image_size)
        self.strip_side = min(self.size, SHOWN_SIDE)
        self.kind = condition_kind(self.condition)

    def __call__(
        self, image: Picture, *, steps: int | None = None, samples: int = 1, mix_from: int | None = None,
        mix_alpha: float = 1.0, seed: int = 0, factor: int = 1, align: bool = False, project: bool = False,
        direction: str | Path | None = None, name: str = "", amount: float | None = None,
    ) -> EncodingResult:  # fmt: skip
        """Encode an image or another condition, and decode the codes.

        `image` is a path, a Pillow image or a tensor: uint8 (C, s, s) of class indices or levels, floats in [-1, 1]
        where it is a picture, or a batch. `steps` is the number of refining steps. Of `samples` all but the first have
        random styles from layer `mix_from` on, mixed with the encoder's by `mix_alpha`. `factor` shrinks an image file
        first, `align` warps its largest face to the model's frame, or to FFHQ's crop if the model has none. `project`
        moves images until they shrink to a low-resolution input within one grey level. The codes are moved by `amount`
        along the direction `name` in the file `direction`.

        Raises PixgraftError for what is no usable condition, and for settings that the model cannot take.
        """
        options = self._options(
            steps=steps, samples=samples, mix_from=mix_from, mix_alpha=mix_alpha, seed=seed, factor=factor, align=align,
            project=project, direction=direction, name=name, amount=amount,
        )  # fmt: skip
        return self._called(image, options, *self._maker(options))

    def _called(
        self, image: Picture, options: CodesOptions, make: Maker, settings: dict[str, Any]
    ) -> EncodingResult:  # fmt: skip
        """What a call returns."""
        conditions, entry = self._given(image, options.factor, options.align)
        result = joined(make(conditions))
        reported: EncodingResult = self.reported(result, seed=options.seed, settings=settings, inputs=[entry])
        return reported

    def _maker(self, options: EncodingOptions) -> tuple[Maker, dict[str, Any]]:
        """What makes the results of conditions, and the settings of their reports.

        Raises PixgraftError for options that the model cannot take.
        """
        settings, move = self._settings(options), self._move(options)

        def make(conditions: Sequence[Condition]) -> Sequence[EncodingResult]:
            return [self.result(each, settings, options.seed, move) for each in conditions]

        return make, settings | (move.settings if move else {})

    def in_photograph(
        self, photograph: Photo, *, faces: Faces = "all", **options: Any
    ) -> PastedResult:  # fmt: skip
        """Each face of a photograph as a call makes it with these `options`, pasted back: `image` is the whole picture,
        and `parts` are the faces' results.

        Raises PixgraftError as a call does, and for a photograph without a face.
        """
        taken = inspect.signature(type(self).__call__).parameters.keys() - {"self", "image", "align"}
        for option in options.keys() - taken:
            raise PixgraftError(f"in_photograph takes no {option}: choose among faces, {', '.join(sorted(taken))}")
        given = self._options(**options, faces=faces, paste_back=True)
        make, settings = self._maker(given)
        name, data = read_file(photograph, "condition")
        read = self.read_conditions(
            data, name, self.kind, factor=given.factor, to=self._placement(faces), faces=faces, pasted=True
        )
        result = together(make(read), read, given)
        entry = input_entry("condition", name, data)
        reported: PastedResult = self.reported(result, seed=given.seed, settings=settings, inputs=[entry])
        return reported

    def _options(self, *, direction: str | Path | None = None, **given: Any) -> Any:
        """The options of a call."""
        return EncodingOptions(direction=None if direction is None else Path(direction), **given)

    def _given(self, image: Picture, factor: int, align: bool) -> tuple[list[Condition], dict[str, str]]:
        """What a call is given, as the method takes it, and as an input of its report."""
        if isinstance(image, Tensor):
            if factor != 1 or align:
                raise PixgraftError("factor and align are for image files: shrink or align the tensor first")
            batch = condition_batch(image, self.condition)
            return [Condition(pixels=each) for each in batch], tensor_entry("condition", image)
        name, data = read_file(image, "condition")
        condition = self.read_condition(data, name, factor=factor, to=self._placement(align))
        return [condition], input_entry("condition", name, data)

    def _settings(self, options: EncodingOptions) -> dict[str, Any]:
        """The settings of a report. Raises PixgraftError for options that the model cannot take."""
        conditions = f"{self.model.name} takes conditions of kind {self.condition.kind}"
        steps, samples, factor = options.steps, options.samples, options.factor
        mix_from, alpha = options.mix_from, options.mix_alpha
        if steps is not None:
            at_least("steps", steps)
            if (most := self.method.max_steps) is not None and steps > most:
                taken = f"{self.method.name} models take {most} step{'s' * (most > 1)}"
                raise PixgraftError(f"steps {steps}: {taken}: leave steps out")
        at_least("samples", samples)
        if samples == 1 and mix_from is not None:
            raise PixgraftError(f"mix-from {mix_from}: the layer where samples differ: ask for 2 samples or more too")
        if not 0 < alpha <= 1 or (samples == 1 and alpha != 1):
            raise PixgraftError(f"mix-alpha {alpha}: the random style's share in 2 samples or more: from above 0 to 1")
        photographs = {"align": options.align, "faces": options.faces, "paste-back": options.paste_back}
        if self.condition.kind not in PHOTOGRAPHS and (named := next((n for n, on in photographs.items() if on), "")):
            raise PixgraftError(f"{named}: {conditions}, in which no faces are found: leave it out")
        if options.project and self.condition.kind != "lr":
            raise PixgraftError(f"project: {conditions}, which outputs do not shrink to: leave it out")
        if factor != 1:
            if self.condition.kind != "lr":
                raise PixgraftError(f"factor {factor}: {conditions}, which are not shrunk: leave it out")
            Degradation(factors=(factor,)).check(self.size)
        return {
            "steps": self.method.steps if steps is None else steps, "samples": samples, "mix_alpha": alpha,
            "mix_from": self.mix_from(mix_from) if samples > 1 else None, "factor": factor,
            "aligned": aligned_setting(self._placement(options.align or options.faces)),
            **({"projected": True} if options.project else {}), **whole_settings(options),
        }  # fmt: skip

    def _move(self, options: CodesOptions) -> Move | None:
        return read_move(options, tuple(self.method.start_codes.shape))

    def _placement(self, align: object) -> Placement | None:
        """Where faces are aligned to. A model without a frame may be a published one, and those know FFHQ's crops."""
        return alignment_for(self.model, align, "ffhq")

    def read_condition(self, data: bytes, name: str, *, factor: int = 1, to: Placement | None = None) -> Condition:
        """The first of `read_conditions`."""
        return self.read_conditions(data, name, self.kind, factor=factor, to=to)[0]

    def read_conditions(
        self, data: bytes, name: str, kind: ConditionKind, *, factor: int = 1, to: Placement | None = None,
        faces: Faces = "largest", pasted: bool = False,
    ) -> list[Condition]:  # fmt: skip
        """As the function of that name."""
        return read_conditions(
            data, name, kind, self.size, self.image_size, factor=factor, to=to, faces=faces, pasted=pasted
        )

    # --- codes and images ---

    def encode(self, condition: Tensor, *, steps: int | None = None) -> Steps:
        """The codes and images of a condition, uint8 (C, s, s), after each step, the starting ones first."""
        with self.autocast():
            encoded = self.computed.encode(condition.unsqueeze(0).to(self.device), steps=steps)
        codes, images = torch.cat(encoded.codes).float().cpu(), to_uint8(torch.cat(encoded.images)).cpu()
        start = self.method.start_codes.float().cpu().unsqueeze(0)
        return Steps(torch.cat([start, codes]), torch.cat([self.start_image.unsqueeze(0), images]))

    @cached_property
    def start_image(self) -> Tensor:
        """The image of the starting codes, uint8 (3, S, S)."""
        return self.decode(self.method.start_codes)

    def decode(self, codes: Tensor) -> Tensor:
        """The image uint8 (3, S, S) of codes (M, D)."""
        with self.autocast():
            return to_uint8(self.computed.decode(codes.unsqueeze(0).to(self.device)))[0].cpu()

    def result(
        self, condition: Condition, settings: Mapping[str, Any], seed: int, move: Move | None = None
    ) -> EncodingResult:  # fmt: skip
        """The images of one condition: the encoder's, moved if asked for, and of further samples those with mixed
        styles."""
        encoded, samples = self.encode(condition.pixels, steps=settings["steps"]), settings["samples"]
        codes, images = [encoded.codes[-1]], [encoded.images[-1]]
        if move is not None:
            codes = [move(encoded.codes[-1])]
            images = [self.decode(codes[0])]
        for number in range(1, samples):
            style = self.method.random_codes(1, generator(seed, "style", number))[0].float().cpu()
            mixed = codes[0].clone()
            first = settings["mix_from"]
            mixed[first:] = torch.lerp(mixed[first:], style, settings["mix_alpha"])
            codes.append(mixed)
            images.append(self.decode(mixed))
        pixels = torch.stack(images)
        measures: dict[str, Any] = {"codes_changed_by": [round(change, 6) for change in encoded.changes]}
        notes, asked, projected = [], settings.get("projected", False), False
        if (small := condition.small) is not None:
            target = small.float().expand(samples, -1, -1, -1)
            before = consistency(pixels, target)
            projected = asked and small.shape[-1] < self.image_size
            if projected:
                pixels = project(pixels, target).to(torch.uint8)
            measures["operator"] = f"{OPERATOR} to {small.shape[-1]} pixels"
            measures["outputs"] = figures(consistency(pixels, target), before) if projected else figures(before, None)
        if asked and not projected:
            notes.append("not projected: give a small image whose side divides the output's, or a factor")
        picture = self.condition.pictured(condition.pixels.unsqueeze(0))[0]
        shown = [*encoded.images, *(images[:1] if move is not None else [])]
        result = EncodingResult(
            pixels=pixels, codes=torch.stack(codes), strip=[picture, *map(from_uint8, shown)],
            strip_side=self.strip_side, measures=measures, notes=notes,
        )  # fmt: skip
        report_alignments(result, [condition])
        return result

    # --- styles ---

    def style_layers(self, option: str) -> int:
        """M. Raises PixgraftError, which names the option, if the codes are no styles of layers."""
        if not self.method.layer_styles:
            raise PixgraftError(f"{option}: the codes of {self.model.name} are no styles of layers: leave it out")
        return len(self.method.start_codes)

    def mix_from(self, layer: int | None) -> int:
        """The first layer in which samples differ: `layer`, or by default the 8th of 18 and the middle of fewer.

        Raises PixgraftError if there is no such layer.
        """
        count = self.style_layers("samples")
        if layer is None:
            return FINE if count >= 2 * FINE + 2 else count // 2
        if not 1 <= layer < count:
            raise PixgraftError(f"mix-from {layer}: the model has the layers 0 to {count - 1}: choose from 1 on")
        return layer

    # --- files ---

    def plan(self, options: EncodingOptions) -> Plan:
        return self._planned(options, *self._maker(options))

    def _planned(self, options: EncodingOptions, maker: Maker, given: dict[str, Any]) -> Plan:
        """The plan of files whose results the maker makes, with these settings."""
        if options.codes is not None:
            return self._decoding(options)
        if not options.condition:
            raise PixgraftError(f"{self.model.name}: say what to translate: {self.usage}")
        kind = condition_kind(self.condition, options.palette, nearest=options.nearest)
        settings = given | kind.settings
        source, to = open_sources(options.condition), self._placement(options.align or options.faces)
        read = partial(
            self.read_conditions, kind=kind, factor=options.factor, to=to, faces=options.faces or "largest",
            pasted=options.paste_back,
        )  # fmt: skip
        files = FileInputs("condition", source, read)
        numbered = options.faces == "all" and not options.paste_back
        jobs = [
            Job(
                label, () if numbered else _outputs(label, options.samples, options.paste_back),
                partial(files.__getitem__, name), (files.file(name),), numbered=numbered,
            )
            for name, label in labels(source.names).items()
        ]  # fmt: skip

        def make(prepared: list[list[Condition]]) -> Sequence[Result]:
            results = iter(maker([face for each in prepared for face in each]))
            return [together([next(results) for _ in each], each, options) for each in prepared]

        def hint() -> str:
            frame = None if to is not None or self.condition.kind not in PHOTOGRAPHS else self.model.frame
            return elsewhere(frame, [partial(picture_of, source, name) for name in source.names])

        return Plan(
            jobs, make, settings, options.seed, paths=list(options.condition),
            read=[each for each in (options.palette, options.direction) if each], skipped=source.skipped,
            summary=grid_of_strips(options.grid, jobs[0].outputs), superseded=() if options.grid else ("grid",),
            hint=hint,
        )  # fmt: skip

    def _decoding(self, options: EncodingOptions) -> Plan:
        """The one job of a file of codes."""
        given = [each.name for each in fields(EncodingOptions) if getattr(options, each.name) != each.default]
        for name in given:
            if name != "codes":
                raise PixgraftError(f"--codes does not go with --{name.replace('_', '-')}: leave one of them out")
        assert options.codes is not None
        codes = self.read_codes(options.codes)
        notes = self.origin(codes)
        job = Job(f"{codes.label}_decoded", (f"{codes.label}_decoded.png",), lambda: codes, (codes.file,))

        def decoded(each: SavedCodes) -> Result:
            pixels = self.decode(each.codes).unsqueeze(0)
            return EncodingResult(pixels=pixels, codes=each.codes.unsqueeze(0), write_codes=False, notes=notes)

        return Plan([job], lambda prepared: list(map(decoded, prepared)), {}, options.seed, paths=[options.codes])

    def read_codes(self, path: Path) -> SavedCodes:
        """The codes in a file. Raises PixgraftError, which names it, if it is none or they do not fit the model."""
        return read_codes(path, tuple(self.method.start_codes.shape))

    def origin(self, codes: SavedCodes) -> list[str]:
        """A note on codes that another model found, or one whose generator was tuned to their image."""
        if codes.metadata.get("weights_sha256") == self.model.weights_sha256:
            return [note] if (note := tuned(codes, self.model.weights_sha256)) else []
        return [f"{codes.path.name}: codes of another model, whose generator may differ"]


def _outputs(label: str, samples: int, pasted: bool) -> tuple[str, ...]:
    """Names of the files of one condition; of a whole photograph there are neither codes nor a strip."""
    stems = [label] if samples == 1 else [f"{label}_{number}" for number in range(samples)]
    if pasted:
        return tuple(f"{stem}.png" for stem in stems)
    return (*(f"{stem}{end}" for stem in stems for end in (".png", CODES)), f"{label}{STRIP}")
