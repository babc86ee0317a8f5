"""Crops put back into the photograph that they were cut from, by the inverse of the cut and a soft mask.

Coordinates are (x, y) in pixels from the photograph's top left corner, as in `data/alignment.py`, or in shares of a
crop's side. Crops that overlap share the pixels: each has most of those near its own centre.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from pixgraft.data.alignment import Floats, inverse

FEATHER = 0.18
"""Width of the mask's soft border in shares of the crop's side."""
NEARNESS = 10.0
"""How steeply a crop's part in what several cover falls with the squared distance from its centre, in its sides."""
PADDING = 4
"""Pixels around a crop that repeat its border: the filter reads two."""

Box = tuple[int, int, int, int]
"""Left, top, right, bottom."""


@dataclass(frozen=True, eq=False)
class Patch:
    """A crop to paste."""

    image: Image.Image
    """RGB, of any side."""
    matrix: Floats
    """The similarity (2, 3) from the photograph's pixels to shares of the crop's side."""


def paste(photograph: Image.Image, patches: Sequence[Patch]) -> Image.Image:
    """The RGB photograph, at its own size, with the patches in it; computed in float32, rounded once.

    Where a crop's border is the photograph's, nothing is blended.
    """
    pasted = photograph.copy()
    for box, members in _clusters([(each, _bounds(each, photograph.size)) for each in patches]):
        left, top, right, bottom = box
        colours = np.zeros((bottom - top, right - left, 3), np.float32)
        total, uncovered = np.zeros(colours.shape[:2], np.float32), np.ones(colours.shape[:2], np.float32)
        for each in members:
            shares = _shares(each, box)
            mask = _mask(each, shares, photograph.size)
            part = mask * np.exp(-NEARNESS * ((shares - 0.5) ** 2).sum(0))
            colours += part[..., None] * _resampled(each, box)
            total += part
            uncovered *= 1 - mask
        below = np.asarray(photograph.crop(box)).astype(np.float32)
        above = colours / np.maximum(total, 1e-12)[..., None]
        mixed = below + (1 - uncovered)[..., None] * (above - below)
        pasted.paste(Image.fromarray(np.rint(mixed).clip(0, 255).astype(np.uint8)), box)
    return pasted


def _bounds(patch: Patch, size: tuple[int, int]) -> Box:
    """The box of the photograph's pixels that the patch covers; empty if it lies beyond."""
    corners = _corners(patch)
    low, high = np.floor(corners.min(0)).astype(int), np.ceil(corners.max(0)).astype(int)
    (left, top), (right, bottom) = low.clip(0, size), high.clip(0, size)
    return int(left), int(top), int(right), int(bottom)


def _corners(patch: Patch) -> Floats:
    """The corners (4, 2) of the crop in the photograph, in the order of a way around it."""
    back = inverse(patch.matrix)
    corners: Floats = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) @ back[:, :2].T + back[:, 2]
    return corners


def _clusters(patches: Sequence[tuple[Patch, Box]]) -> list[tuple[Box, list[Patch]]]:
    """Patches whose boxes overlap, together, with the box around them."""
    clusters: list[tuple[Box, list[Patch]]] = []
    for patch, box in patches:
        if box[0] >= box[2] or box[1] >= box[3]:
            continue
        members, apart = [patch], clusters
        while True:
            near = [each for each in apart if _overlap(each[0], box)]
            if not near:
                break
            apart = [each for each in apart if not _overlap(each[0], box)]
            boxes = np.array([box, *(each[0] for each in near)])
            (left, top), (right, bottom) = boxes[:, :2].min(0), boxes[:, 2:].max(0)
            box = int(left), int(top), int(right), int(bottom)
            members = [member for each in near for member in each[1]] + members
        clusters = [*apart, (box, members)]
    return clusters


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _shares(patch: Patch, box: Box) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """The middles of a box's pixels in shares of the crop's side, (2, H, W)."""
    x = np.arange(box[0], box[2], dtype=np.float32) + 0.5
    y = (np.arange(box[1], box[3], dtype=np.float32) + 0.5)[:, None]
    a = patch.matrix.astype(np.float32)
    return np.stack([row[0] * x + row[1] * y + row[2] for row in a])


def _mask(
    patch: Patch, shares: np.ndarray[tuple[int, ...], np.dtype[np.float32]], size: tuple[int, int]
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """The patch's weight in each pixel, 0..1: 1 inside, and falling smoothly to 0 at its borders in the photograph."""
    top, right, bottom, left = _free_sides(patch, size)
    (x, y), mask = shares, np.ones(shares.shape[1:], np.float32)
    for free, distance in ((left, x), (right, 1 - x), (top, y), (bottom, 1 - y)):
        ramp = (distance / FEATHER).clip(0, 1) if free else (distance >= 0).astype(np.float32)
        mask *= ramp * ramp * (3 - 2 * ramp)
    return mask


def _free_sides(patch: Patch, size: tuple[int, int]) -> list[bool]:
    """Whether there is something to blend with at the crop's top, right, bottom and left side.

    There is not where the side lies along the photograph's border or beyond.
    """
    corners = _corners(patch)
    free = []
    for start, end in zip(corners, np.roll(corners, -1, 0), strict=True):
        both = np.stack([start, end])
        beyond = ((both <= 0.5).all(0) | (both >= np.array(size) - 0.5).all(0)).any()
        free.append(not beyond)
    return free


def _resampled(patch: Patch, box: Box) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """The crop's colours in the pixels of a box, (H, W, 3). Beyond the crop they mean nothing.

    A crop finer than the photograph is shrunk by Lanczos first: the bicubic transform would alias.
    """
    scale = float(np.hypot(patch.matrix[0, 0], patch.matrix[1, 0]))  # shares of the side in a pixel of the photograph
    side = max(1, min(patch.image.width, round(1 / scale)))
    crop = patch.image if side == patch.image.width else patch.image.resize((side, side), Image.Resampling.LANCZOS)
    padded = Image.fromarray(np.pad(np.asarray(crop), ((PADDING, PADDING), (PADDING, PADDING), (0, 0)), mode="edge"))
    linear = patch.matrix[:, :2] * side
    shift = patch.matrix @ (box[0], box[1], 1) * side + PADDING
    transform = tuple(np.column_stack([linear, shift]).ravel())
    area = (box[2] - box[0], box[3] - box[1])
    bands = [
        np.asarray(band.convert("F").transform(area, Image.Transform.AFFINE, transform, Image.Resampling.BICUBIC))
        for band in padded.split()
    ]
    return np.stack(bands, axis=-1)
