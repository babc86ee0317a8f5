"""Conditions, the inputs that an image is made from: read from files as compact uint8 tensors.

A label map is (1, H, W) with a class index in each pixel, a sketch (1, H, W) grey, any other picture (3, H, W) RGB.
Files are untrusted: any fault in them ends in a `PixgraftError` that names the file.
"""

import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from pixgraft.data.degrade import enlarged
from pixgraft.data.images import decode, fit, image_format, pixels, to_tensor, to_uint8, upright
from pixgraft.errors import PixgraftError
from pixgraft.files import json_sha256, read_bytes
from pixgraft.layers.conditions import ConditionSpec, Enlarging

Color = tuple[int, int, int]
Values = npt.NDArray[np.int64]
Classes = npt.NDArray[np.uint8]

MAX_CLASSES = 256
"""A class index is one byte."""

DISTANCES = (16, 64)
"""Distances from a class's colour, in levels, up to which pixels are counted."""

_PALETTE_BYTES = 2**20

_PACKED_GREY = {2: 85, 4: 17}
"""Bits for each pixel of a grey PNG whose levels Pillow scales to 0..255, and the factor of that scaling."""


@dataclass(frozen=True)
class Palette:
    """The classes of a colour map, in order."""

    names: tuple[str, ...]
    colors: tuple[Color, ...]
    """Red, green and blue in 0..255, each colour once."""


def read_palette(path: str | Path) -> Palette:
    """The palette in a text file: one line "NAME R G B" for each class, in order; # begins a comment.

    Raises PixgraftError, which names the file and the line, if a line has another form or repeats a name or colour.
    """
    path = Path(path)
    try:
        text = read_bytes(path, _PALETTE_BYTES).decode("utf-8-sig")
    except FileNotFoundError:
        raise PixgraftError(f"{path}: cannot be read as a palette: No such file") from None
    except UnicodeDecodeError:
        raise PixgraftError(f"{path}: cannot be read as a palette: not text in UTF-8") from None
    classes: dict[str, Color] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        content = line.partition("#")[0].strip()
        if not content:
            continue
        name, *values = content.rsplit(maxsplit=3)
        if len(values) != 3 or not all(re.fullmatch("[0-9]{1,3}", value) and int(value) <= 255 for value in values):
            raise PixgraftError(f'{path}, line {number}: {content!r} is not "NAME R G B" with numbers from 0 to 255')
        red, green, blue = map(int, values)
        if name in classes or (red, green, blue) in classes.values():
            raise PixgraftError(f"{path}, line {number}: {content!r} repeats a name or colour; give each class its own")
        classes[name] = (red, green, blue)
    if not 2 <= len(classes) <= MAX_CLASSES:
        raise PixgraftError(f"{path}: {len(classes)} classes; a palette has 2 to {MAX_CLASSES}, one on each line")
    return Palette(tuple(classes), tuple(classes.values()))


@dataclass(frozen=True, kw_only=True)
class ConditionKind:
    """The kind of the conditions, and how their files are read.

    labels: an index image (PNG of mode P, L or 1) whose pixels are class indices. color: an RGB image whose colours
    stand for classes. sketch: a grey image. image: an RGB image. lr: a small RGB image, which is enlarged.
    """

    kind: Literal["labels", "color", "sketch", "image", "lr"]
    classes: int = 0
    """For labels and color: class indices are 0 to `classes` - 1."""
    colors: tuple[Color, ...] = ()
    """For color: the colour of each class."""
    mirrored: tuple[tuple[int, int], ...] = ()
    """For labels and color: classes that are each other's mirror image, such as the left and the right brow."""
    enlarging: Enlarging = "bicubic"
    """For lr: the filter that enlarges an image."""
    nearest: bool = False
    """For color: a colour that is none of `colors` counts as the nearest class."""

    def __post_init__(self) -> None:
        if self.kind == "color" and len(set(self.colors)) != self.classes:
            raise PixgraftError(_too_few_or_many(len(set(self.colors)), self.classes))
        if self.has_classes and not 2 <= self.classes <= MAX_CLASSES:
            raise PixgraftError(f"a condition of kind {self.kind} has 2 to {MAX_CLASSES} classes, not {self.classes}")
        swapped = [index for pair in self.mirrored for index in pair]
        if len(set(swapped)) != len(swapped) or not all(0 <= index < self.classes for index in swapped):
            raise PixgraftError(
                f"mirrored classes {self.mirrored}: name each class once, from 0 to {self.classes - 1} (data.mirrored)"
            )

    @property
    def has_classes(self) -> bool:
        """Whether a pixel is the index of a class."""
        return self.kind in ("labels", "color")

    @property
    def stored_channels(self) -> int:
        """Channels of the compact uint8 tensor."""
        return 3 if self.kind in ("image", "lr") else 1

    @property
    def settings(self) -> dict[str, Any]:
        """How colours are read as classes, for a report; nothing for other conditions."""
        if self.kind != "color":
            return {}
        return {"palette_sha256": json_sha256({"colors": self.colors}), **({"nearest": True} if self.nearest else {})}

    def decode(self, data: bytes, name: str) -> Image.Image:
        """The file's picture at its original size: class indices or grey (mode L), or RGB. Errors begin with `name`.

        Raises PixgraftError if the file is damaged, a value is not a class index, or a colour has no class.
        """
        return self.decode_noted(data, name)[0]

    def decode_noted(self, data: bytes, name: str) -> tuple[Image.Image, list[str]]:
        """As `decode`, with what a reader should know of it: how far colours were from those of their classes."""
        picture = decode(data, name)
        if self.kind == "labels":
            return Image.fromarray(_checked(_indices(data, name), self.classes, name)), []
        if self.kind == "color":
            find = _nearest_classes if self.nearest else _classes_of
            classes, notes = find(np.asarray(picture), self.colors, name)
            return Image.fromarray(classes), notes
        return picture.convert("L") if self.kind == "sketch" else picture, []

    def fit(self, picture: Image.Image, size: int) -> Tensor:
        """The largest centred square of a picture from `decode`, resized, as uint8 (1 or 3, size, size).

        Class indices are resized by nearest neighbour, pictures by the filters of `images.fit`.
        """
        side = min(picture.size)
        if self.has_classes:
            return pixels(fit(picture, side).resize((size, size), Image.Resampling.NEAREST))
        if self.kind == "lr" and side < size:
            small = to_tensor(fit(picture, side)).unsqueeze(0)
            return to_uint8(enlarged(small, size, self.enlarging)).squeeze(0)
        return pixels(fit(picture, size))

    def read(self, data: bytes, name: str, size: int) -> Tensor:
        """`fit` of `decode`: the file as a compact uint8 tensor (1 or 3, size, size)."""
        return self.fit(self.decode(data, name), size)

    def mirror(self, condition: Tensor) -> Tensor:
        """A compact condition (..., H, W) mirrored; `mirrored` classes change places."""
        flipped = condition.flip(-1)
        if not self.mirrored:
            return flipped
        swap = torch.arange(self.classes, dtype=torch.uint8, device=condition.device)
        for one, other in self.mirrored:
            swap[one], swap[other] = other, one
        return swap[flipped.long()]


def condition_kind(
    spec: ConditionSpec, palette: str | Path | None = None, *, mirrored: tuple[tuple[int, int], ...] = (),
    nearest: bool = False,
) -> ConditionKind:  # fmt: skip
    """How files of a method's conditions are read; `palette` names the file of colours that label maps have, and
    `nearest` takes others for the nearest of them.

    Raises PixgraftError if the palette cannot be read, or does not fit the conditions, and for `nearest` without one.
    """
    if nearest and not palette:
        raise PixgraftError("--nearest: takes the nearest colour of a palette: name one with --palette")
    if not palette:
        return ConditionKind(
            kind=spec.kind, classes=spec.classes, mirrored=mirrored if spec.classes else (), enlarging=spec.enlarging
        )
    if spec.kind != "labels":
        raise PixgraftError(f"palette {palette}: the conditions are of kind {spec.kind}, not labels: leave it out")
    colors = read_palette(palette).colors
    if len(colors) != spec.classes:
        raise PixgraftError(f"{palette}: {_too_few_or_many(len(colors), spec.classes)}")
    return ConditionKind(kind="color", classes=spec.classes, colors=colors, mirrored=mirrored, nearest=nearest)


def _too_few_or_many(colors: int, classes: int) -> str:
    return (
        f"{colors} different colours for {classes} classes: give each class one, "
        f"or another palette (data.palette in training, else --palette), or train with method.classes={colors}"
    )


def _indices(data: bytes, name: str) -> Values:
    """The values of an index image (H, W), any whole numbers; `data` is known to be a sound image."""
    kind = image_format(data)
    assert kind is not None
    if kind == "JPEG":
        raise PixgraftError(f"{name}: a JPEG, whose compression changes class indices; save index images as PNG")
    image: Image.Image = Image.OPEN[kind][0](io.BytesIO(data), "")
    image.load()
    if image.mode not in ("1", "L", "P", "I") and not image.mode.startswith("I;16"):
        raise PixgraftError(
            f"{name}: an image of mode {image.mode}, not of class indices (P, L or 1): "
            "save it as one, or name a palette of its colours (data.palette in training, else --palette)"
        )
    values = np.asarray(upright(image)).astype(np.int64)
    if kind == "PNG" and image.mode == "L":
        values //= _PACKED_GREY.get(data[24], 1)  # the header's bits a sample
    return values


def _checked(values: Values, classes: int, name: str) -> Classes:
    """The class indices (H, W) as uint8. Raises PixgraftError, naming the first value beyond the classes."""
    wrong = (values < 0) | (values >= classes)
    if wrong.any():
        y, x = np.argwhere(wrong)[0]
        raise PixgraftError(
            f"{name}: value {values[y, x]} at ({x}, {y}), but there are {classes} classes, 0 to {classes - 1}: "
            "give the right number of classes, or mend the file"
        )
    return np.asarray(values, dtype=np.uint8)


def _classes_of(pixels: Classes, colors: tuple[Color, ...], name: str) -> tuple[Classes, list[str]]:
    """RGB pixels (H, W, 3) as class indices (H, W), without notes.

    Raises PixgraftError, naming the first colour without a class.
    """
    codes = _codes(pixels)
    known = _codes(colors)
    order = known.argsort()
    place = np.searchsorted(known, codes, sorter=order).clip(max=len(known) - 1)
    classes = order[place]
    wrong = known[classes] != codes
    if wrong.any():
        y, x = np.argwhere(wrong)[0]
        red, green, blue = pixels[y, x]
        raise PixgraftError(
            f"{name}: colour {red} {green} {blue} at ({x}, {y}) is not in the palette: "
            "add it there, save the image without smoothing or loss, or translate it with --nearest"
        )
    return np.asarray(classes, dtype=np.uint8), []


def _nearest_classes(pixels: Classes, colors: tuple[Color, ...], name: str) -> tuple[Classes, list[str]]:
    """RGB pixels (H, W, 3) as the indices (H, W) of the classes with the nearest colours, the first of equally near
    ones; and a note on the distances, which are Euclidean in levels."""
    codes, place, counts = np.unique(_codes(pixels), return_inverse=True, return_counts=True)
    found = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=-1)
    nearest, best = np.zeros(len(codes), np.uint8), np.full(len(codes), np.iinfo(np.int64).max)
    for index, color in enumerate(colors):
        squared = ((found - color) ** 2).sum(-1)
        closer = squared < best
        nearest[closer], best[closer] = index, squared[closer]
    if not best.any():
        return nearest[place.reshape(pixels.shape[:2])], []
    within = ", ".join(f"{counts[best <= each**2].sum():,} within {each}" for each in DISTANCES)
    exact, farthest = counts[best == 0].sum(), float(best.max()) ** 0.5
    note = f"nearest class: of {counts.sum():,} pixels {exact:,} had a colour of the palette, {within} levels of one"
    return nearest[place.reshape(pixels.shape[:2])], [f"{note}; the farthest was {farthest:.0f} off"]


def _codes(colors: npt.ArrayLike) -> Values:
    """Each colour (..., 3) as one number."""
    red, green, blue = np.moveaxis(np.asarray(colors, dtype=np.int64), -1, 0)
    codes: Values = red << 16 | green << 8 | blue
    return codes
