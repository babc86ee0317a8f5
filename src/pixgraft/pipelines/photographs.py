"""Faces in the photographs that pipelines take: aligned as in a model's training images, or told of if they are not."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

import numpy as np
from PIL import Image

from pixgraft.data.alignment import Placement, Template
from pixgraft.data.frame import Frame
from pixgraft.data.images import decode, fit
from pixgraft.data.sources import ImageSource
from pixgraft.errors import PixgraftError
from pixgraft.faces import align, detect
from pixgraft.models import Model
from pixgraft.pipelines.base import Result

LOOKED_AT = 20
"""Most photographs whose faces `elsewhere` detects: each costs it some 80 ms, and reading."""
SEEN_SIDE = 128
"""Side in pixels at which it looks at them."""
LEAST_SIDE = 40
"""Shorter side in pixels below which a photograph is too small for the detector to tell."""
ASTRAY = 0.08
"""The mean distance of a face's landmarks from the frame, in shares of the side, from which the face lies elsewhere."""


@dataclass(frozen=True, kw_only=True)
class Alignable:
    """An input whose face may have been aligned."""

    alignments: list[dict[str, Any]] = field(default_factory=list)
    """What a report says of it: role, name, side of the crop, and the matrix (2, 3) from its pixels to the crop's."""
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Photograph(Alignable):
    """A photograph, or the aligned crop of it."""

    image: Image.Image


def report_alignments(result: Result, inputs: Iterable[Alignable]) -> None:
    """Add to a result's report how its inputs were aligned, and the remarks on them."""
    for each in inputs:
        if each.alignments:
            result.measures["alignments"] = result.measures.get("alignments", []) + each.alignments
        result.notes += each.notes


def alignment_for(model: Model, asked: bool, default: Template | None = None) -> Placement | None:
    """What photographs are aligned to if that is `asked`: the model's frame, or else the default.

    Raises PixgraftError if there is neither.
    """
    if not asked:
        return None
    if model.frame is None and default is None:
        problem = f"align: where the faces of {model.name}'s training images lie is not known"
        raise PixgraftError(f"{problem}: pixgraft export {model.name} OUT --frame FILE makes a model that knows it")
    return model.frame or default


def aligned_setting(to: Placement | None) -> Any:
    """The setting "aligned" of a report: the frame's points, true for a template, or false."""
    return to.points.tolist() if isinstance(to, Frame) else to is not None


def aligned(picture: Image.Image, to: Placement | None, size: int, role: str, name: str) -> Photograph:
    """An RGB picture with its largest face aligned in a crop of `size` x `size` pixels; as it is, without `to`.

    Raises PixgraftError, which begins with `name`, if it shows no face.
    """
    if to is None:
        return Photograph(image=picture)
    face = align(picture, size, template=to, name=name)
    entry = {"role": role, "name": PurePath(name).name, "side": size, "matrix": face.matrix.round(6).tolist()}
    whose = "" if role == "condition" else f"{role}: "
    return Photograph(image=face.image, alignments=[entry], notes=[f"{whose}{note}" for note in face.notes])


def elsewhere(frame: Frame | None, pictures: Sequence[Callable[[], Image.Image]]) -> str:
    """A line that counts the pictures whose largest face is not where the frame has it; empty if there are none.

    Of many pictures some are looked at, at equal distances. Unreadable and tiny ones do not count.
    """
    if frame is None:
        return ""
    count = min(len(pictures), LOOKED_AT)
    chosen = [pictures[place * len(pictures) // count] for place in range(count)]
    looked = astray = 0
    for read in chosen:
        try:
            picture = read()
        except PixgraftError:
            continue
        if min(picture.size) < LEAST_SIDE:
            continue
        looked += 1
        faces = detect(fit(picture, SEEN_SIDE))
        distances = np.hypot(*(faces[0].landmarks / SEEN_SIDE - frame.points).T) if faces else np.inf
        astray += bool(np.mean(distances) > ASTRAY)
    if not astray:
        return ""
    checked = f"{looked:,} photograph{'s' * (looked != 1)}" + (
        f" looked at, of {len(pictures):,}" if len(chosen) < len(pictures) else ""
    )
    lies = "the largest face lies elsewhere than in the model's training images"
    return f"{astray:,} of {checked}: {lies}: --align moves it"


def picture_of(source: ImageSource, name: str) -> Image.Image:
    """An image of a source. Raises PixgraftError, which names it, if it is unusable."""
    return decode(source.read(name), name)
