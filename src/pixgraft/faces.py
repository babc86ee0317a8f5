"""Faces found in pictures and cut out upright: the cascade of MTCNN with its weights, which come with the package.

Zhang et al. 2016, "Joint Face Detection and Alignment Using Multitask Cascaded Convolutional Networks", section II. All
of it runs on the CPU: the networks are small, and the same picture gives the same faces on any machine. One step is not
the paper's: O-Net looks at each face again, upright, and its points are taken from there (`_steadied`).
Places are (x, y) in pixels from a picture's top left corner: pixel (0, 0) covers the square from (0, 0) to (1, 1).
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
import torch
from PIL import Image

from pixgraft.data.alignment import TEMPLATES, Floats, Template, crop_matrix, resampled, share_beyond, tilt, warp
from pixgraft.data.check import Finding, without_name
from pixgraft.data.images import decode, to_tensor
from pixgraft.data.outputs import check_spared, output_folder, write_image
from pixgraft.data.sources import open_source
from pixgraft.errors import PixgraftError
from pixgraft.features import asset
from pixgraft.layouts.common import filled
from pixgraft.layouts.reading import read_tensors
from pixgraft.networks.mtcnn import CELL, MTCNN, O_SIDE, R_SIDE, STRIDE

SMALLEST = 20
"""Pixels: the narrowest face that is looked for."""
LARGEST_SIDE = 1024
"""Pixels: a larger picture is shrunk to it before faces are looked for, so that a large file costs no more."""
PYRAMID = 0.709
"""The scale from one level of the pyramid to the next, about the root of a half."""
PROPOSED, REFINED, FOUND = 0.6, 0.7, 0.7
"""The least probabilities that P-Net, R-Net and O-Net must give."""
LOOKS = (0.9, 1.0, 1.1)
"""How much nearer than its box O-Net sees a face when it looks again."""
MUCH_BEYOND = 0.1
"""The share of a crop beyond its picture from which `align_files` tells of it."""


@dataclass(frozen=True, eq=False)
class Face:
    """A face in a picture."""

    box: Floats
    """(4,): left, top, right, bottom; from the brows to the chin, about."""
    score: float
    """Its probability, 0..1."""
    landmarks: Floats
    """(5, 2): the eye on the picture's left, the other eye, the nose, the mouth's left corner, its other corner."""


@dataclass(frozen=True, eq=False)
class Aligned:
    """A face cut out upright."""

    image: Image.Image
    face: Face
    """In the picture that it was cut from."""
    others: list[Face]
    """The faces that were found beside it and left, the larger ones first."""
    beyond: float
    """How much of `image`, 0..1, lies beyond the picture and is filled from it."""

    @property
    def notes(self) -> list[str]:
        """What is to be known of it."""
        notes = []
        if self.others:
            notes.append(f"{len(self.others) + 1} faces: the largest was taken")
        if self.beyond > MUCH_BEYOND:
            notes.append(f"{self.beyond:.0%} of the crop lies beyond the picture and is filled from it")
        return notes


@dataclass(frozen=True)
class AlignedFiles:
    """What a pass over a source cut out, and what it could not."""

    written: int
    skipped: list[Finding]
    """The files that gave none, each with the reason."""
    notes: list[Finding]
    """What is to be known of single ones that were written."""


def detect(image: Image.Image) -> list[Face]:
    """The faces in an RGB image, the larger ones first.

    Those narrower than 20 pixels, or than 2 % of the picture's longer side, are not looked for.
    """
    shrinking = max(1.0, max(image.size) / LARGEST_SIDE)
    width, height = (max(1, round(side / shrinking)) for side in image.size)
    picture = image.resize((width, height), Image.Resampling.BILINEAR) if shrinking > 1 else image
    back = np.array([image.width / width, image.height / height])
    boxes, scores, points = _cascade(picture)
    faces = [
        Face(box * np.tile(back, 2), float(score), landmarks * back)
        for box, score, landmarks in zip(boxes, scores, points, strict=True)
    ]
    return sorted(faces, key=lambda face: -_area(face.box))


def align(image: Image.Image, size: int, *, template: Template = "ffhq", name: str = "the picture") -> Aligned:
    """The largest face of an RGB image as an upright crop of `size` x `size` pixels; `name` is what errors call it.

    `template`: "ffhq" shows the whole head, as FFHQ's pictures do; "arcface" the face alone, for identity networks.

    Raises PixgraftError if there is no face, or for a size below 1 or an unknown template.
    """
    _check(size, template)
    faces = detect(image)
    if not faces:
        raise PixgraftError(f"{name}: no face found: choose a picture that shows one larger or from the front")
    try:
        matrix = crop_matrix(faces[0].landmarks, size, template)
    except PixgraftError as error:
        raise PixgraftError(f"{name}: {error}") from None
    return Aligned(warp(image, matrix, size), faces[0], faces[1:], share_beyond(image, matrix, size))


def align_files(
    source: str | Path,
    out: str | Path,
    *,
    size: int = 256,
    template: Template = "ffhq",
    progress: Callable[[int, int], None] | None = None,
) -> AlignedFiles:
    """Write the aligned face of every image in a folder, a zip or a file to `out`, named as it but for the suffix .png.

    `progress` is called with (images done, images in all). An image that cannot be read, shows no face, or has the name
    of another but for the suffix, is told of in the result; so is one with several faces, or cut off by its picture.
    Raises PixgraftError if `source` holds no images, `out` cannot be written to, or as `align` for its settings.
    """
    _check(size, template)
    images = open_source(source)
    skipped: list[Finding] = []
    notes: list[Finding] = []
    origins: dict[Path, str] = {}
    existed = Path(out).exists()
    try:
        check_spared([images.path], [Path(out) / PurePosixPath(name).with_suffix(".png") for name in images.names])
        output_folder(Path(out), images.path)
        for done, name in enumerate(images.names, start=1):
            path = Path(out) / PurePosixPath(name).with_suffix(".png")
            try:
                if path in origins:
                    raise PixgraftError(f"{name}: the same stem as {origins[path]}")
                aligned = align(decode(images.read(name), name), size, template=template, name=name)
            except PixgraftError as error:
                skipped.append(Finding(name, without_name(name, error), usable=False))
            else:
                write_image(path, to_tensor(aligned.image))
                origins[path] = name
                notes += [Finding(name, note, usable=True) for note in aligned.notes]
            if progress is not None:
                progress(done, len(images.names))
    finally:
        images.close()
        if not origins and not existed:
            with contextlib.suppress(OSError):
                Path(out).rmdir()
    return AlignedFiles(len(origins), skipped, notes)


def _check(size: int, template: str) -> None:
    if size < 1:
        raise PixgraftError(f"a size of {size}: choose a number of pixels from 1")
    if template not in TEMPLATES:
        raise PixgraftError(f"no template named {template}: choose one of {', '.join(TEMPLATES)}")


# --- the cascade ---


@lru_cache(maxsize=1)
def networks() -> MTCNN:
    """The three networks with their weights, on the CPU, in eval mode, without gradients."""
    network = filled(MTCNN(), read_tensors(asset("mtcnn.safetensors")), "mtcnn").requires_grad_(False)
    assert isinstance(network, MTCNN)
    return network


@torch.inference_mode()
def _cascade(image: Image.Image) -> tuple[Floats, Floats, Floats]:
    """The boxes (N, 4), scores (N,) and landmarks (N, 5, 2) of the faces in an RGB image."""
    nets = networks()
    boxes = _proposals(image)

    scores, offsets = _judged(nets.rnet, image, boxes, R_SIDE)
    boxes, scores, offsets = _above(REFINED, scores, boxes, scores, offsets)
    kept = suppress(boxes, scores, 0.7)
    boxes = squares(moved(boxes[kept], offsets[kept]))

    scores, offsets, points = _judged(nets.onet, image, boxes, O_SIDE)
    boxes, scores, offsets, points = _above(FOUND, scores, boxes, scores, offsets, points)
    sides = boxes[:, None, 2:] - boxes[:, None, :2]
    landmarks = boxes[:, None, :2] + points * sides
    boxes = moved(boxes, offsets)
    # One box within another overlaps it little in shares of both: two of one face would remain.
    kept = suppress(boxes, scores, 0.7, over="smaller")
    steadied = [_steadied(image, boxes[i], landmarks[i]) for i in kept]
    return boxes[kept], scores[kept], np.array(steadied).reshape(-1, 5, 2)


def _steadied(image: Image.Image, box: Floats, landmarks: Floats) -> Floats:
    """The landmarks (5, 2) as O-Net sees them with the face turned upright: the mean of three looks, one a little
    nearer, one a little farther.

    O-Net learnt from upright faces, and its points move with the square that it is shown. On portraits this takes the
    points' scatter when a picture is shifted to a third, and at a tilt of 30 degrees their error to a quarter.
    """
    angle, centre, side = tilt(landmarks), (box[:2] + box[2:]) / 2, max(1.0, *(box[2:] - box[:2]))
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    total = np.zeros((5, 2))
    for nearer in LOOKS:
        linear = turn * (nearer * O_SIDE / side)
        matrix = np.column_stack([linear, O_SIDE / 2 - linear @ centre])
        _, _, points = networks().onet(to_tensor(resampled(image, matrix, O_SIDE)).unsqueeze(0))
        seen = points[0].double().numpy() - 0.5  # from the middle of what it was shown, which is the box's
        total += centre + seen * O_SIDE @ np.linalg.inv(linear).T
    return total / len(LOOKS)


def _proposals(image: Image.Image) -> Floats:
    """P-Net's squares (N, 4), from all levels of a pyramid."""
    pnet = networks().pnet
    found: list[tuple[Floats, Floats, Floats]] = []
    scale = CELL / SMALLEST
    while min(image.size) * scale >= CELL:
        width, height = (round(side * scale) for side in image.size)
        level = to_tensor(image.resize((width, height), Image.Resampling.BILINEAR)).unsqueeze(0)
        probabilities, offsets = (each[0].double().numpy() for each in pnet(level))
        rows, columns = np.nonzero(probabilities >= PROPOSED)
        corners = STRIDE * np.column_stack([columns, rows]).astype(np.float64)
        ratio = np.array([image.width / width, image.height / height])
        boxes = np.column_stack([corners * ratio, (corners + CELL) * ratio])
        scores = probabilities[rows, columns]
        kept = suppress(boxes, scores, 0.5)
        found.append((boxes[kept], scores[kept], offsets[:, rows, columns].T[kept]))
        scale *= PYRAMID
    if not found:
        return np.empty((0, 4))
    boxes, scores, offsets = (np.concatenate(parts) for parts in zip(*found, strict=True))
    kept = suppress(boxes, scores, 0.7)
    return squares(moved(boxes[kept], offsets[kept]))


def _judged(network: torch.nn.Module, image: Image.Image, boxes: Floats, side: int) -> list[Floats]:
    """What R-Net or O-Net says of each of the square boxes (N, 4), shown to it at `side` x `side` pixels."""
    # at least one, so that no box gives arrays of the right shapes too
    shown = [_cut(image, box, side) for box in boxes] or [torch.zeros(3, side, side)]
    parts = [network(torch.stack(shown[start : start + 256])) for start in range(0, len(shown), 256)]
    return [torch.cat(each).double().numpy()[: len(boxes)] for each in zip(*parts, strict=True)]


def _cut(image: Image.Image, box: Floats, side: int) -> torch.Tensor:
    """A box of the image, black beyond it, resized with antialiasing."""
    left, top, right, bottom = np.floor(box[0]), np.floor(box[1]), np.ceil(box[2]), np.ceil(box[3])
    whole = image.crop((int(left), int(top), int(right), int(bottom)))
    inside = tuple(box - (left, top, left, top))  # boxes lie between pixels
    return to_tensor(whole.resize((side, side), Image.Resampling.BILINEAR, box=inside))


def _above(least: float, scores: Floats, *arrays: Floats) -> list[Floats]:
    return [array[scores >= least] for array in arrays]


def _area(boxes: Floats) -> Floats:
    sides = (boxes[..., 2:] - boxes[..., :2]).clip(0)
    area: Floats = sides[..., 0] * sides[..., 1]
    return area


def moved(boxes: Floats, offsets: Floats) -> Floats:
    """Boxes (N, 4) with each edge moved by its offset (N, 4), a share of the box's width or height."""
    sides = boxes[:, 2:] - boxes[:, :2]
    return boxes + offsets * np.tile(sides, 2)


def squares(boxes: Floats) -> Floats:
    """The squares (N, 4) about the same centres whose sides are the boxes' longer ones, of a pixel at least."""
    centres = (boxes[:, 2:] + boxes[:, :2]) / 2
    halves = (boxes[:, 2:] - boxes[:, :2]).max(1, keepdims=True).clip(1) / 2
    return np.column_stack([centres - halves, centres + halves])


def suppress(boxes: Floats, scores: Floats, most: float, *, over: Literal["union", "smaller"] = "union") -> list[int]:
    """Which of the boxes (N, 4) remain, best score first, when each removes the lesser ones that overlap it too much.

    That is, by more than `most` of the area of both together, or of the smaller one.
    """
    order = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while order.size:
        best, order = order[0], order[1:]
        kept.append(int(best))
        rest = boxes[order]
        both = np.column_stack([np.maximum(boxes[best, :2], rest[:, :2]), np.minimum(boxes[best, 2:], rest[:, 2:])])
        overlap, own, theirs = _area(both), _area(boxes[best]), _area(rest)
        whole = own + theirs - overlap if over == "union" else np.minimum(own, theirs)
        order = order[overlap <= most * whole]
    return kept
