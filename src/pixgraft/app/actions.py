"""What a page can ask of a model: options, and the files that the driver makes of them, as the command line would."""

import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from pixgraft.app.controls import Control, controls
from pixgraft.app.drawing import drawn
from pixgraft.data.images import SUFFIXES, decode, fit, image_format, pixels, png_bytes
from pixgraft.errors import PixgraftError
from pixgraft.files import read_bytes, read_json, write_bytes
from pixgraft.pipelines.base import Done, Pipeline, Plan
from pixgraft.pipelines.edit import edit
from pixgraft.pipelines.encode import EncodingPipeline
from pixgraft.pipelines.figures import figure_at, figure_text
from pixgraft.pipelines.files import run
from pixgraft.pipelines.options import EditOptions, MixOptions, WalkOptions

UPLOAD_LIMIT = 32 * 2**20
"""Bytes of an upload."""
DRAWING = "drawing.png"
"""Name of a drawn condition, which is square; so are its styles."""
REPORT_LIMIT = 2**24
"""Bytes of a report."""
NAME_LIMIT = 60
"""Characters of an upload's name within those of its outputs."""
SHOWN_SIDE = 512
"""Side in pixels to which a small picture is enlarged beside an output."""
COMPARED = ("target", "condition")
"""Fields of the pictures that an output is compared with."""
NEEDED = ("source", "target", "condition")
"""Fields without which there is nothing to do; in place of the last one codes may be given."""
COMPUTING = ThreadPoolExecutor(1, thread_name_prefix="compute")
"""The thread in which models are loaded and compute, for all requests: two at once would need the memory of both, and a
thread for each request makes each slower (`pixgraft.data.threads.Helpers`)."""


@dataclass(frozen=True)
class Answer:
    """What came of a request: files in the request's folder."""

    images: list[tuple[Path, str]]
    """Pictures with what they are, the outputs first."""
    files: list[Path]
    """All that was written."""
    report: dict[str, Any]
    figures: list[tuple[str, str]]
    """What the report measures, as the command line's table shows it."""
    notes: list[str] = field(default_factory=list)
    compared: tuple[Path, Path] | None = None
    """The input and the first output, of one size."""


@dataclass(frozen=True)
class Action:
    """One thing that a model can be asked for."""

    name: str
    title: str
    pipeline: Pipeline
    options: type
    plan: Callable[[Any, Path], Plan]
    """The plan of options, whose output is a path."""
    out: str = ""
    """Name of the file that the output is; empty if it is a folder."""

    @property
    def controls(self) -> list[Control]:
        """The controls of its options."""
        return controls(self.options, self.pipeline)

    def perform(self, given: Mapping[str, Any], folder: Path) -> Answer:
        """Do it with what the controls send, by their names; `folder` is empty, and gets inputs and outputs.

        Of pictures and files a list of paths is given, in which None is nothing; of a drawing a file in its place and
        the canvas. The same values give the same bytes, in any company. Raises PixgraftError for what cannot be used.
        """
        try:
            values = {each.name: self._value(each, given.get(each.name), folder) for each in self.controls}
            self._check_given(values)
            plan, done = COMPUTING.submit(self._run, self.options(**values), folder / "out" / self.out).result()
        except PixgraftError as error:
            raise PixgraftError(str(error).replace(f"{folder}/", "")) from None
        reports = [each.report for each in done if each.report]
        return self._outcome(plan, reports, values, folder)

    def _run(self, options: Any, out: Path) -> tuple[Plan, list[Done]]:
        plan = self.plan(options, out)
        return plan, run(self.pipeline, plan, out)

    def _check_given(self, values: Mapping[str, Any]) -> None:
        """Raise PixgraftError if a picture that the model needs is missing, and no codes are given in its place."""
        for each in self.controls:
            if each.name in NEEDED and not values[each.name] and not values.get("codes"):
                raise PixgraftError(f"{each.label}: is empty: {'draw, or ' * (each.kind == 'drawing')}give a picture")

    def _value(self, control: Control, given: Any, folder: Path) -> Any:
        if control.kind not in ("picture", "drawing", "file"):
            return control.value(given)
        if control.kind == "drawing" and given and given[0] is None and given[1] is not None:
            spec = self.pipeline.condition  # type: ignore[attr-defined]
            data = drawn(read_bytes(Path(given[1]), UPLOAD_LIMIT), spec)
            return control.value([_stored(folder / "in" / DRAWING, data)])
        paths = []
        for number, each in enumerate(given or []):
            if each is not None and number < control.count:
                data = read_bytes(Path(each), UPLOAD_LIMIT)
                place = folder / "in" / f"{control.name}{number}" / _name(Path(each), data, control.kind)
                if control.name == "style" and (folder / "in" / DRAWING).exists():
                    place, data = place.with_suffix(".png"), _square(data, place.name)
                paths.append(_stored(place, data))
        return control.value(paths)

    def _outcome(
        self, plan: Plan, reports: Sequence[dict[str, Any]], values: Mapping[str, Any], folder: Path
    ) -> Answer:
        out = folder / "out"
        summary = [out / name for name in plan.summary.outputs] if plan.summary else []
        named = [out / each["file"] for report in reports for each in report.get("outputs", [])]
        pictures = [each for each in [*named, *summary] if each.suffix in (".png", ".gif")]
        stem = plan.jobs[0].label if len(plan.jobs) == 1 else ""
        images = [(each, _caption(each.stem, stem)) for each in pictures]
        label = plan.summary.label if plan.summary else plan.jobs[0].label
        report = read_json(out / f"{label}.json", REPORT_LIMIT)
        figures = [
            (heading, text)
            for heading, path in self.pipeline.columns.items()
            if len(reports) == 1 and (text := figure_text(figure_at(reports[0].get("measures"), path)))
        ]
        notes = [note for each in reports for note in each.get("notes", [])]
        compared = None
        given = next((values[name][0] for name in COMPARED if values.get(name)), None)
        cut = values.get("align") or values.get("faces") or values.get("paste_back")
        if given is not None and images and not cut:
            compared = _beside(given, images[0][0], folder)
        return Answer(images, sorted(out.iterdir()), report, figures, notes, compared)


@dataclass(frozen=True, kw_only=True)
class CodesToEdit(EditOptions):
    """One or two files of codes, and what to change."""

    first: Path | None = None
    """Codes of an image: a file NAME_codes.safetensors among the results."""
    second: Path | None = None
    """Those of another one; none with a direction."""


def actions(pipeline: Pipeline) -> list[Action]:
    """All that a model can be asked for, its task first."""
    model: Any = pipeline
    found = [Action("", "Make", pipeline, pipeline.Options, lambda options, _: pipeline.plan(options))]
    if hasattr(model, "mix") and model.method.style_layers:
        found.append(Action("mix", "Mix styles", pipeline, MixOptions, model.mix, "mix.png"))
    if hasattr(model, "walk"):
        found.append(Action("walk", "Walk", pipeline, WalkOptions, model.walk, "walk.gif"))
    if isinstance(pipeline, EncodingPipeline):
        found.append(Action("edit", "Edit codes", pipeline, CodesToEdit, partial(_edit, pipeline)))
    return found


def _edit(pipeline: EncodingPipeline, options: CodesToEdit, out: Path) -> Plan:
    if options.first is None:
        raise PixgraftError("Edit codes: give a file of codes, and a second one or a direction")
    return edit(pipeline, options.first, options.second, options, out)


def _stored(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, data)
    return path


def _square(data: bytes, name: str) -> bytes:
    """The centred square of a picture, which is all that a model takes, as a PNG."""
    picture = decode(data, name)
    return png_bytes(pixels(fit(picture, min(picture.size))), {})


def _name(path: Path, data: bytes, kind: str) -> str:
    """A file name for an upload: its own, short and plain; a picture's with the suffix of its format."""
    stem = re.sub(r"[^\w-]+", "_", path.stem)[:NAME_LIMIT].strip("_") or "upload"
    if kind == "file":
        return stem + re.sub(r"[^.\w]+", "", path.suffix)[:NAME_LIMIT]
    known = image_format(data)
    return stem + next((suffix for suffix, name in SUFFIXES.items() if name == known), ".png")


def _caption(stem: str, label: str) -> str:
    """What a picture is, by its file's name without what all of them share."""
    return (stem.removeprefix(label).strip("_") if label else stem) or "output"


def _beside(given: Path, output: Path, folder: Path) -> tuple[Path, Path]:
    """An input and an output as files of one size, for a slider between them."""
    made = Image.open(output)
    side = max(made.width, SHOWN_SIDE // made.width * made.width)
    picture = fit(decode(read_bytes(given, UPLOAD_LIMIT), given.name), min(Image.open(given).size))
    places = folder / "input.png", folder / "output.png"
    for place, each in zip(places, (picture, made.convert("RGB")), strict=True):
        grows = each.width < side
        each.resize((side, side), Image.Resampling.NEAREST if grows else Image.Resampling.LANCZOS).save(place)
    return places
