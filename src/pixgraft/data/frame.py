"""The frame of a data set of faces: where the five landmarks of a face lie in its images.

`pixgraft data align` writes it beside its images, training passes it on to the model, and photographs are warped to it.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pixgraft.data.sources import FRAME_FILE, files_beside
from pixgraft.errors import PixgraftError
from pixgraft.files import read_json
from pixgraft.records import from_dict

LIMIT = 2**16
"""Bytes of the largest file of a frame."""
LEAST = 0.05
"""The least distance between the eyes, and from them down to the mouth. Nearer points give no scale, and swapped
ones a wrong direction."""

Point: TypeAlias = tuple[float, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Frame:
    """Five landmarks, each (x, y) in shares of an image's side from its top left corner.

    Raises PixgraftError for points beyond -1..2, eyes that are not beside each other, and a mouth not below them.
    """

    left_eye: Point
    """The eye on the picture's left."""
    right_eye: Point
    """The eye on the picture's right."""
    nose: Point
    """The tip of the nose."""
    left_mouth: Point
    """The mouth's corner on the picture's left."""
    right_mouth: Point
    """The mouth's corner on the picture's right."""

    def __post_init__(self) -> None:
        for name, (x, y) in dataclasses.asdict(self).items():
            if not (-1 <= x <= 2 and -1 <= y <= 2):
                raise PixgraftError(f"{name} is at ({x:g}, {y:g}): give x and y in shares of the side, from -1 to 2")
        eyes, mouth = self.points[:2], self.points[3:]
        if eyes[1, 0] - eyes[0, 0] < LEAST or (mouth - eyes).mean(0)[1] < LEAST:
            raise PixgraftError("the eyes are not beside each other and above the mouth: give each point as (x, y)")

    @property
    def points(self) -> NDArray[np.float64]:
        """The landmarks (5, 2) in the order of the fields."""
        return np.array(dataclasses.astuple(self), dtype=np.float64)

    @classmethod
    def median(cls, points: Sequence[NDArray[np.float64]]) -> "Frame":
        """The frame of images whose landmarks are `points`, (5, 2) each in shares of the side."""
        middle = np.median(points, axis=0).round(5).tolist()
        return cls(**{field.name: tuple(point) for field, point in zip(dataclasses.fields(cls), middle, strict=True)})


def frame_of(values: Any, where: str) -> Frame:
    """The frame in plain values. Raises PixgraftError, which begins with `where`, if they are none."""
    try:
        return from_dict(Frame, values, where)
    except PixgraftError as error:
        raise PixgraftError(f"{where}: {str(error).removeprefix(f'{where}: ')}") from None


def read_frame(path: Path) -> Frame:
    """The frame in a file. Raises PixgraftError, which names it, if there is none."""
    try:
        return frame_of(read_json(path, LIMIT), str(path))
    except FileNotFoundError:
        raise PixgraftError(f"{path}: no such file: give the {FRAME_FILE} that pixgraft data align wrote") from None


def frame_bytes(frame: Frame) -> bytes:
    """A frame as the bytes of its file."""
    return (json.dumps(dataclasses.asdict(frame), indent=1) + "\n").encode()


def find_frame(path: Path, names: Sequence[str]) -> Frame | None:
    """The frame beside images, sorted `names` in the folder or zip `path`; None if there is none.

    It lies in the deepest folder that holds all of them, or in one above that up to the root. A report of that name,
    of an image named alike, is none. Raises PixgraftError, which names the file, if it is damaged.
    """
    for file, data in files_beside(path, names, FRAME_FILE, LIMIT):
        try:
            values = json.loads(data)
        except (ValueError, RecursionError):
            raise PixgraftError(f"{file}: not JSON: cut short or edited; mend or remove it") from None
        if not (isinstance(values, dict) and "weights_sha256" in values):
            return frame_of(values, file)
    return None
