"""The place of a face in a square crop, and the transform of a picture into such a crop.

Coordinates are (x, y) in pixels from the picture's top left corner: pixel (0, 0) is the square from (0, 0) to (1, 1). A
face has five landmarks: the eye on the picture's left, the other eye, the nose, the left and the right mouth corner.

A crop has the landmarks of a data set's frame (`data/frame.py`), or one of two templates. "arcface" is the five points
that identity networks were trained with (Deng et al. 2019, "ArcFace"). Points are fitted by least squares (Umeyama
1991, "Least-squares estimation of transformation parameters between two point patterns", without reflection). "ffhq" is
a whole head, the square crop of FFHQ (Karras et al. 2019, "A Style-Based Generator Architecture for Generative
Adversarial Networks", after its published recipe).
"""

from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from pixgraft.data.frame import Frame
from pixgraft.errors import PixgraftError

Template = Literal["ffhq", "arcface"]
TEMPLATES: tuple[Template, ...] = get_args(Template)
Placement: TypeAlias = Template | Frame
"""Where a face belongs in a crop: a template, or the frame of a data set."""

Floats: TypeAlias = NDArray[np.float64]

ARCFACE = (
    np.array([[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]) + 0.5
) / 112
"""The five points in shares of the crop; published for 112 x 112 pixels with integer coordinates at their centres."""


def similarity(points: Floats, onto: Floats) -> Floats:
    """The rotation, scale and shift, without a reflection, that map `points` (N, 2) closest to `onto` (N, 2).

    A matrix (2, 3): it maps a point p to matrix[:, :2] @ p + matrix[:, 2]. With points as complex numbers the map is
    z -> a z + b, and least squares give `a` and `b` as in linear regression.

    Raises PixgraftError if the points of either set coincide.
    """
    z, w = points @ (1, 1j), onto @ (1, 1j)
    centred = z - z.mean()
    spread = float((np.abs(centred) ** 2).sum())
    a = (centred.conj() @ (w - w.mean())) / spread if spread > 0 else 0
    if not abs(a) > 1e-9 or not np.isfinite(a):
        raise PixgraftError("the five points of the face coincide: choose another picture")
    b = w.mean() - a * z.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def applied(matrix: Floats, points: Floats) -> Floats:
    """The points (N, 2) under the similarity `matrix` (2, 3)."""
    mapped: Floats = points @ matrix[:, :2].T + matrix[:, 2]
    return mapped


def crop_matrix(landmarks: Floats, size: int, template: Placement) -> Floats:
    """The similarity (2, 3) from a picture with these landmarks (5, 2) to a crop of `size` x `size` pixels."""
    if isinstance(template, Frame) or template == "arcface":
        return similarity(landmarks, (template.points if isinstance(template, Frame) else ARCFACE) * size)
    corners = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 0.0]])
    return similarity(head_square(landmarks), corners * size)


def head_square(landmarks: Floats) -> Floats:
    """The corners (4, 2) of FFHQ's square in the picture: top left, bottom left, bottom right, top right of the crop.

    Its direction is the mean of the line between the eyes and the normal of the line from them to the mouth. Half its
    side is the longer of twice the first and 1.8 times the second; its centre is a tenth of the second below the eyes.
    """
    across, down = _across_and_down(landmarks)
    angle = tilt(landmarks)
    half = max(2 * np.hypot(*across), 1.8 * np.hypot(*down))
    x, y = half * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    centre = landmarks[:2].mean(0) + 0.1 * down
    return np.stack([centre - x - y, centre - x + y, centre + x + y, centre + x - y])


def tilt(landmarks: Floats) -> float:
    """The clockwise rotation of a face (5, 2) in radians, from its eyes and mouth as in FFHQ's recipe."""
    across, down = _across_and_down(landmarks)
    return float(np.arctan2(across[1] - down[0], across[0] + down[1]))


def _across_and_down(landmarks: Floats) -> tuple[Floats, Floats]:
    """The vectors (2,) from eye to eye, and from the midpoint of the eyes to that of the mouth's corners."""
    return landmarks[1] - landmarks[0], (landmarks[3:] - landmarks[:2]).mean(0)


def warp(image: Image.Image, matrix: Floats, size: int) -> Image.Image:
    """The crop of `size` x `size` pixels of an RGB image under the similarity `matrix` (2, 3).

    Beyond the picture the crop is its mirror image, which fades as in FFHQ's recipe: within a twentieth of the crop
    into a blurred copy, and within three tenths into the median colour. A tight portrait would show eyes above hair.
    """
    crop, distance = resampled(image, matrix, size), _beyond(image, matrix, size) / size
    if not distance.any():
        return crop
    sharp = np.asarray(crop).astype(np.float64)
    blurred = np.asarray(crop.filter(ImageFilter.GaussianBlur(0.02 * size))).astype(np.float64)
    mixed = sharp + (blurred - sharp) * (distance / 0.05).clip(0, 1)[..., None]
    mixed += (np.median(sharp, axis=(0, 1)) - mixed) * (distance / 0.3).clip(0, 1)[..., None]
    return Image.fromarray(np.rint(mixed).astype(np.uint8))


def share_beyond(image: Image.Image, matrix: Floats, size: int) -> float:
    """The share of the crop that is beyond the picture, 0..1."""
    return float((_beyond(image, matrix, size) > 0).mean())


def resampled(image: Image.Image, matrix: Floats, size: int) -> Image.Image:
    """As `warp`, but with the sharp mirror image beyond the picture.

    Pillow's bicubic transform reads 4 x 4 pixels at any scale, and would alias when it shrinks. So Lanczos first
    shrinks a finer picture to twice the crop's scale; the transform rotates and shifts that to a crop of twice the
    size, where its blur has no effect; and Lanczos halves the result.
    """
    back = inverse(matrix)
    step = float(np.hypot(back[0, 0], back[1, 0])) / 2  # pixels of the picture in half a pixel of the crop
    corners = np.array([[0, 0], [size, 0], [0, size], [size, size]]) @ back[:, :2].T + back[:, 2]
    reach = 4 * max(1.0, step)  # Lanczos reads three pixels, the transform two
    left, top = np.floor(corners.min(0) - reach).astype(int)
    right, bottom = np.ceil(corners.max(0) + reach).astype(int)
    rows, columns = _mirrored(top, bottom, image.height), _mirrored(left, right, image.width)
    region = Image.fromarray(np.asarray(image)[rows][:, columns])

    width, height = (max(1, round(side / max(1.0, step))) for side in region.size)
    ratio = np.array([region.width / width, region.height / height])
    if region.size != (width, height):
        region = region.resize((width, height), Image.Resampling.LANCZOS)
    half = np.column_stack([back[:, :2] / 2, back[:, 2] - (left, top)]) / ratio[:, None]
    bands = []
    for band in region.split():
        # in float32: with 8-bit levels the transform would drop the fractions, and darken by half a level
        twice = band.convert("F").transform(
            (2 * size, 2 * size), Image.Transform.AFFINE, tuple(half.ravel()), Image.Resampling.BICUBIC
        )
        bands.append(np.asarray(twice.resize((size, size), Image.Resampling.LANCZOS)))
    return Image.fromarray(np.rint(np.stack(bands, axis=-1)).clip(0, 255).astype(np.uint8))


def _beyond(image: Image.Image, matrix: Floats, size: int) -> Floats:
    """The distance of each pixel of the crop from the picture, (size, size), in pixels of the crop; 0 inside it."""
    back = inverse(matrix)
    middles = np.arange(size) + 0.5
    x, y = np.meshgrid(middles, middles)
    places = (a * x + b * y + c for a, b, c in back)
    beyond = [np.maximum(0, np.maximum(-place, place - side)) for place, side in zip(places, image.size, strict=True)]
    distance: Floats = np.hypot(*beyond) / np.hypot(back[0, 0], back[1, 0])
    return distance


def inverse(matrix: Floats) -> Floats:
    """The similarity (2, 3) that undoes `matrix` (2, 3)."""
    linear = np.linalg.inv(matrix[:, :2])
    return np.column_stack([linear, -linear @ matrix[:, 2]])


def _mirrored(start: int, stop: int, count: int) -> NDArray[Any]:
    """The indices start..stop, mirrored at the ends of 0..count until all are inside."""
    index = np.arange(start, stop) % (2 * count)
    return np.minimum(index, 2 * count - 1 - index)
