"""Face detection with the cascade of MTCNN and its bundled weights.

Zhang et al. 2016, "Joint Face Detection and Alignment Using Multitask Cascaded Convolutional Networks", section II. It
runs on the CPU: the networks are small, and a picture gives the same faces on every machine. One step is not in the
paper: O-Net sees each face again, upright, and the landmarks are those of this second pass (`_refined_landmarks`).
Coordinates are (x, y) in pixels from the picture's top left corner: pixel (0, 0) is the square from (0, 0) to (1, 1).
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from PIL import Image

from pixgraft.data.alignment import Floats, resampled, tilt
from pixgraft.data.images import to_tensor
from pixgraft.features import asset
from pixgraft.layouts.common import filled
from pixgraft.layouts.reading import read_tensors
from pixgraft.networks.mtcnn import CELL, MTCNN, O_SIDE, R_SIDE, STRIDE

SMALLEST = 20
"""The width of the narrowest face that can be detected, in pixels."""
LARGEST_SIDE = 1024
"""The side, in pixels, to which a larger picture is shrunk before detection, so that its size costs no time."""
PYRAMID = 0.709
"""The scale from one level of the pyramid to the next, nearly the square root of 0.5."""
P_NET, R_NET, O_NET = 0.6, 0.7, 0.7
"""The least probabilities of a face for P-Net, R-Net and O-Net."""
ZOOMS = (0.9, 1.0, 1.1)
"""The magnifications of a face in the second pass of O-Net, relative to its box."""


@dataclass(frozen=True, eq=False)
class Face:
    """A face in a picture."""

    box: Floats
    """(4,): left, top, right, bottom; roughly from the brows to the chin."""
    score: float
    """The probability of a face, 0..1."""
    landmarks: Floats
    """(5, 2): the eye on the picture's left, the other eye, the nose, the mouth's left corner, its other corner."""


def detect(image: Image.Image) -> list[Face]:
    """The faces in an RGB image, from the largest to the smallest.

    Faces narrower than 20 pixels, or than 2 % of the picture's longer side, are not detected.
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


@lru_cache(maxsize=1)
def networks() -> MTCNN:
    """The three networks with their weights, on the CPU, in eval mode, without gradients."""
    return filled(MTCNN(), read_tensors(asset("mtcnn.safetensors")), "mtcnn").requires_grad_(False)


@torch.inference_mode()
def _cascade(image: Image.Image) -> tuple[Floats, Floats, Floats]:
    """The boxes (N, 4), scores (N,) and landmarks (N, 5, 2) of the faces in an RGB image."""
    nets = networks()
    boxes = _proposals(image)

    scores, offsets = _outputs(nets.rnet, image, boxes, R_SIDE)
    boxes, scores, offsets = _above(R_NET, scores, boxes, scores, offsets)
    remaining = suppress(boxes, scores, 0.7)
    boxes = squares(shifted(boxes[remaining], offsets[remaining]))

    scores, offsets, points = _outputs(nets.onet, image, boxes, O_SIDE)
    boxes, scores, offsets, points = _above(O_NET, scores, boxes, scores, offsets, points)
    sides = boxes[:, None, 2:] - boxes[:, None, :2]
    landmarks = boxes[:, None, :2] + points * sides
    boxes = shifted(boxes, offsets)
    # A box inside another is a small share of their union: both of one face would remain.
    remaining = suppress(boxes, scores, 0.7, over="smaller")
    refined = [_refined_landmarks(image, boxes[i], landmarks[i]) for i in remaining]
    return boxes[remaining], scores[remaining], np.array(refined).reshape(-1, 5, 2)


def _refined_landmarks(image: Image.Image, box: Floats, landmarks: Floats) -> Floats:
    """The landmarks (5, 2) that O-Net gives for the face turned upright, averaged over three magnifications.

    O-Net was trained on upright faces, and its landmarks depend on the position of the box. On portraits this divides
    their scatter over shifts of the picture by three, and their error at a tilt of 30 degrees by four.
    """
    angle, centre, side = tilt(landmarks), (box[:2] + box[2:]) / 2, max(1.0, *(box[2:] - box[:2]))
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    total = np.zeros((5, 2))
    for zoom in ZOOMS:
        linear = turn * (zoom * O_SIDE / side)
        matrix = np.column_stack([linear, O_SIDE / 2 - linear @ centre])
        _, _, points = networks().onet(to_tensor(resampled(image, matrix, O_SIDE)).unsqueeze(0))
        offsets = points[0].double().numpy() - 0.5  # from the centre of the box
        total += centre + offsets * O_SIDE @ np.linalg.inv(linear).T
    return total / len(ZOOMS)


def _proposals(image: Image.Image) -> Floats:
    """The squares (N, 4) that P-Net proposes, from all levels of a pyramid."""
    pnet = networks().pnet
    levels: list[tuple[Floats, Floats, Floats]] = []
    scale = CELL / SMALLEST
    while min(image.size) * scale >= CELL:
        width, height = (round(side * scale) for side in image.size)
        level = to_tensor(image.resize((width, height), Image.Resampling.BILINEAR)).unsqueeze(0)
        probabilities, offsets = (each[0].double().numpy() for each in pnet(level))
        rows, columns = np.nonzero(probabilities >= P_NET)
        corners = STRIDE * np.column_stack([columns, rows]).astype(np.float64)
        ratio = np.array([image.width / width, image.height / height])
        boxes = np.column_stack([corners * ratio, (corners + CELL) * ratio])
        scores = probabilities[rows, columns]
        remaining = suppress(boxes, scores, 0.5)
        levels.append((boxes[remaining], scores[remaining], offsets[:, rows, columns].T[remaining]))
        scale *= PYRAMID
    if not levels:
        return np.empty((0, 4))
    boxes, scores, offsets = (np.concatenate(parts) for parts in zip(*levels, strict=True))
    remaining = suppress(boxes, scores, 0.7)
    return squares(shifted(boxes[remaining], offsets[remaining]))


def _outputs(network: torch.nn.Module, image: Image.Image, boxes: Floats, side: int) -> list[Floats]:
    """The outputs of R-Net or O-Net for the square boxes (N, 4), each resized to `side` x `side` pixels."""
    # at least one input, so that the arrays of no boxes have the right shapes too
    crops = [_cut(image, box, side) for box in boxes] or [torch.zeros(3, side, side)]
    parts = [network(torch.stack(crops[start : start + 256])) for start in range(0, len(crops), 256)]
    return [torch.cat(each).double().numpy()[: len(boxes)] for each in zip(*parts, strict=True)]


def _cut(image: Image.Image, box: Floats, side: int) -> torch.Tensor:
    """A box of the image, black outside it, resized with antialiasing."""
    left, top, right, bottom = np.floor(box[0]), np.floor(box[1]), np.ceil(box[2]), np.ceil(box[3])
    whole = image.crop((int(left), int(top), int(right), int(bottom)))
    inside = tuple(box - (left, top, left, top))  # the edges of boxes are between pixels
    return to_tensor(whole.resize((side, side), Image.Resampling.BILINEAR, box=inside))


def _above(least: float, scores: Floats, *arrays: Floats) -> list[Floats]:
    return [array[scores >= least] for array in arrays]


def _area(boxes: Floats) -> Floats:
    sides = (boxes[..., 2:] - boxes[..., :2]).clip(0)
    area: Floats = sides[..., 0] * sides[..., 1]
    return area


def shifted(boxes: Floats, offsets: Floats) -> Floats:
    """Boxes (N, 4) with each edge shifted by its offset (N, 4), a share of the box's width or height."""
    sides = boxes[:, 2:] - boxes[:, :2]
    return boxes + offsets * np.tile(sides, 2)


def squares(boxes: Floats) -> Floats:
    """The squares (N, 4) with the boxes' centres and longer sides, at least one pixel wide."""
    centres = (boxes[:, 2:] + boxes[:, :2]) / 2
    halves = (boxes[:, 2:] - boxes[:, :2]).max(1, keepdims=True).clip(1) / 2
    return np.column_stack([centres - halves, centres + halves])


def suppress(boxes: Floats, scores: Floats, most: float, *, over: Literal["union", "smaller"] = "union") -> list[int]:
    """Non-maximum suppression of boxes (N, 4): the indices of those that remain, best score first.

    A box suppresses those of lower scores whose overlap with it exceeds `most` of the area of their union, or of the
    smaller box.
    """
    order = np.argsort(-scores, kind="stable")
    remaining: list[int] = []
    while order.size:
        best, order = order[0], order[1:]
        remaining.append(int(best))
        rest = boxes[order]
        both = np.column_stack([np.maximum(boxes[best, :2], rest[:, :2]), np.minimum(boxes[best, 2:], rest[:, 2:])])
        overlap, area, areas = _area(both), _area(boxes[best]), _area(rest)
        whole = area + areas - overlap if over == "union" else np.minimum(area, areas)
        order = order[overlap <= most * whole]
    return remaining
