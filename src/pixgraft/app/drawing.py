"""Drawings on the page as conditions: ink on paper as a sketch, colours as a label map."""

import io
import struct
import zlib

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from pixgraft.errors import PixgraftError, reason
from pixgraft.layers.conditions import ConditionSpec, class_colors

Bytes = npt.NDArray[np.uint8]
SIDE = 512
"""Side of the canvas in pixels."""
PAPER, INK = "#ffffff", "#000000"
TOLERANCE = 2
"""Levels by which a drawn pixel may miss its colour: browsers round where they blend."""


def colours(spec: ConditionSpec) -> list[str]:
    """The colours of the brush as #rrggbb: that of each class, or ink."""
    if spec.kind != "labels":
        return [INK]
    return ["#" + bytes(each).hex() for each in _levels(spec)]


def _levels(spec: ConditionSpec) -> Bytes:
    levels: Bytes = ((class_colors(spec.classes).numpy() + 1) * 127.5).round().astype(np.uint8)
    return levels


def drawn(canvas: bytes, spec: ConditionSpec) -> bytes:
    """A drawing, the PNG of a canvas, as the file of a condition, a PNG too: of class indices, or grey.

    A brush's soft edge, whose colours are those of no class, gets the class beside it. Raises PixgraftError for an
    empty canvas, and for what is none.
    """
    try:
        picture = PngImageFile(io.BytesIO(canvas))
        if max(picture.size) > 2 * SIDE:
            raise PixgraftError(f"the drawing has {picture.width} x {picture.height} pixels: draw on the page's canvas")
        rgba = picture.convert("RGBA")
    except (OSError, SyntaxError, ValueError, struct.error, zlib.error) as error:
        raise PixgraftError(f"the drawing cannot be read: {reason(error)}: draw it anew") from error
    flat = Image.alpha_composite(Image.new("RGBA", rgba.size, PAPER), rgba).convert("RGB")
    if len(flat.getcolors(2) or ()) == 1:
        raise PixgraftError("the drawing is empty: draw, or give a file")
    image = Image.fromarray(_classes(np.asarray(flat), _levels(spec))) if spec.kind == "labels" else flat.convert("L")
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _classes(pixels: Bytes, levels: Bytes) -> Bytes:
    """The class (H, W) of each pixel (H, W, 3), by its colour, or by its neighbours' where that is none's; paper is of
    the first class."""
    unknown = 255
    classes = np.full(pixels.shape[:2], unknown, np.int16)
    for index, level in reversed(list(enumerate(levels[:unknown].astype(np.int16)))):
        classes[_near(pixels, level)] = index
    classes[_near(pixels, np.full(3, 255, np.int16))] = 0  # paper
    while (edge := classes == unknown).any() and not edge.all():
        around = np.pad(classes, 1, constant_values=unknown)
        for beside in (around[:-2, 1:-1], around[2:, 1:-1], around[1:-1, :-2], around[1:-1, 2:]):
            classes = np.where((classes == unknown) & (beside != unknown), beside, classes)
    return np.where(classes == unknown, 0, classes).astype(np.uint8)


def _near(pixels: Bytes, colour: npt.NDArray[np.int16]) -> npt.NDArray[np.bool_]:
    near: npt.NDArray[np.bool_] = (np.abs(pixels - colour) <= TOLERANCE).all(-1)
    return near
