"""The squares that pipelines cut from photographs, with faces aligned as in a model's training images."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePath
from typing import Any

import numpy as np
from PIL import Image

from pixgraft.data.alignment import Floats, Placement, Template
from pixgraft.data.frame import Frame
from pixgraft.data.images import decode, fit
from pixgraft.data.sources import ImageSource
from pixgraft.errors import PixgraftError
from pixgraft.faces import align, align_all, detect
from pixgraft.models import Model
from pixgraft.pipelines.base import Result
from pixgraft.pipelines.options import Faces

LOOKED_AT = 20
"""Most photographs whose faces `elsewhere` detects: each costs it some 80 ms, and reading."""
SEEN_SIDE = 128
"""Side in pixels at which it looks at them."""
LEAST_SIDE = 40
"""Shorter side in pixels below which a photograph is too small for the detector to tell."""
ASTRAY = 0.08
"""The mean distance of a face's landmarks from the frame, in shares of the side, from which the face lies elsewhere."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Cut:
    """The square of a photograph that a model takes: an aligned face's, or the largest centred one."""

    role: str
    name: str
    size: tuple[int, int]
    """Width and height of the photograph in pixels."""
    matrix: Floats
    """The similarity (2, 3) from its pixels to shares of the square's side."""
    side: int
    """The square's side in pixels as the model takes it."""
    centred: bool
    photograph: bytes = b""
    """The photograph's file, where results are pasted into it."""

    @property
    def square(self) -> int:
        """The square's side in pixels of the photograph."""
        return max(1, round(1 / float(np.hypot(self.matrix[0, 0], self.matrix[1, 0]))))

    def entry(self, made: int) -> dict[str, Any] | None:
        """What a report says of it if the input or the output, of side `made`, has other pixels; None if neither."""
        cropped = self.centred and self.size[0] != self.size[1]
        if self.square == self.side and self.square <= made and not cropped:
            return None
        return {
            "role": self.role, "name": self.name, "size": list(self.size), "cropped": cropped, "square": self.square,
            "side": self.side, "made": made,
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Alignable:
    """An input whose face may have been aligned."""

    alignments: list[dict[str, Any]] = field(default_factory=list)
    """What a report says of it: role, name, side of the crop, and the matrix (2, 3) from its pixels to the crop's."""
    notes: list[str] = field(default_factory=list)
    cut: Cut | None = None
    """What was cut from a file; None of tensors."""


@dataclass(frozen=True, kw_only=True)
class Photograph(Alignable):
    """A photograph, or the aligned crop of it."""

    image: Image.Image


def report_alignments(result: Result, inputs: Iterable[Alignable]) -> None:
    """Add to a result's report how its inputs were aligned and resized, and the remarks on them."""
    for each in inputs:
        if each.cut is not None and (entry := each.cut.entry(result.pixels.shape[-1])):
            result.sizes.append(entry)
        if each.alignments:
            result.measures["alignments"] = result.measures.get("alignments", []) + each.alignments
        result.notes += each.notes


def alignment_for(model: Model, asked: object, default: Template | None = None) -> Placement | None:
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
    """The first of `cut_out`."""
    return cut_out(picture, to, size, role, name)[0]


def cut_out(
    picture: Image.Image, to: Placement | None, size: int, role: str, name: str, *, faces: Faces = "largest",
    side: int | None = None, file: bytes = b"",
) -> list[Photograph]:  # fmt: skip
    """A picture with its largest face, or each of all, aligned in a crop of `size` x `size` pixels; as it is without
    `to`.

    `side` is that of the square as the model takes it, where it is not `size`; `file` the picture's, to paste into.
    Raises PixgraftError, which begins with `name`, if it shows no face.
    """
    about = {"role": role, "name": PurePath(name).name}
    cut = partial(
        Cut, role=role, name=about["name"], size=picture.size, side=size if side is None else side, photograph=file
    )
    if to is None:
        return [Photograph(image=picture, cut=cut(matrix=_centre(picture.size), centred=True))]
    found = align_all(picture, size, template=to, name=name) if faces == "all" else [
        align(picture, size, template=to, name=name)
    ]  # fmt: skip
    whose = "" if role == "condition" else f"{role}: "
    return [
        Photograph(
            image=face.image, alignments=[about | {"side": size, "matrix": face.matrix.round(6).tolist()}],
            notes=[f"{whose}{note}" for note in face.notes], cut=cut(matrix=face.matrix / size, centred=False),
        )
        for face in found
    ]  # fmt: skip


def _centre(size: tuple[int, int]) -> Floats:
    """The similarity from the pixels of a picture of that width and height to shares of its largest centred square."""
    side = min(size)
    left, top = ((each - side) // 2 for each in size)
    return np.array([[1, 0, -left], [0, 1, -top]]) / side


def elsewhere(frame: Frame | None, pictures: Sequence[Callable[[], Image.Image]]) -> str:
    """A line that counts the pictures whose largest face is not where the frame has it, and those without one; empty if
    there are neither.

    Of many pictures some are looked at, at equal distances. Unreadable and tiny ones do not count.
    """
    if frame is None:
        return ""
    count = min(len(pictures), LOOKED_AT)
    chosen = [pictures[place * len(pictures) // count] for place in range(count)]
    looked = astray = faceless = 0
    for read in chosen:
        try:
            picture = read()
        except PixgraftError:
            continue
        if min(picture.size) < LEAST_SIDE:
            continue
        looked += 1
        if faces := detect(fit(picture, SEEN_SIDE)):
            distances = np.hypot(*(faces[0].landmarks / SEEN_SIDE - frame.points).T)
            astray += bool(np.mean(distances) > ASTRAY)
        else:
            faceless += 1
    checked = f"{looked:,} photograph{'s' * (looked != 1)}" + (
        f" looked at, of {len(pictures):,}" if len(chosen) < len(pictures) else ""
    )
    lies = "the largest face lies elsewhere than in the model's training images: --align moves it"
    lines = [f"{astray:,} of {checked}: {lies}"] * bool(astray)
    lines += [f"{faceless:,} of {checked}: no face found, and the model was trained on faces"] * bool(faceless)
    return "; ".join(lines)


def picture_of(source: ImageSource, name: str) -> Image.Image:
    """An image of a source. Raises PixgraftError, which names it, if it is unusable."""
    return decode(source.read(name), name)
