"""CelebAMask-HQ (Lee et al. 2020): label maps merged from its files of facial parts, and its two class orders.

The data set has a PNG for each part of each face, NNNNN_PART.png in folders 0 to 14, white inside the part. There are
two numberings of the 19 classes: in g_mask.py of the data set, and in prepropess_data.py of face-parsing.PyTorch. Both
paint the parts in the order of their numbers, a later one over an earlier.
"""

import contextlib
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pixgraft.data.check import Finding, without_name
from pixgraft.data.images import decode
from pixgraft.data.outputs import check_made, output_folder, write_image
from pixgraft.data.sources import open_source
from pixgraft.data.threads import in_threads
from pixgraft.errors import PixgraftError
from pixgraft.files import removed_if_empty

ClassOrder = Literal["celebamask-hq", "face-parsing"]

ORDERS: dict[ClassOrder, tuple[str, ...]] = {
    "celebamask-hq": (
        "background", "skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear", "mouth",
        "u_lip", "l_lip", "hair", "hat", "ear_r", "neck_l", "neck", "cloth",
    ),
    "face-parsing": (
        "background", "skin", "l_brow", "r_brow", "l_eye", "r_eye", "eye_g", "l_ear", "r_ear", "ear_r", "nose",
        "mouth", "u_lip", "l_lip", "neck", "neck_l", "cloth", "hair", "hat",
    ),
}  # fmt: skip
"""The names of classes 0 to 18: eye_g are glasses, ear_r is an earring, neck_l a necklace, mouth the inside of it."""

_PART = re.compile(rf"(.+)_({'|'.join(ORDERS['face-parsing'][1:])})")


def mirrored(order: ClassOrder) -> tuple[tuple[int, int], ...]:
    """The pairs of classes that swap in a mirrored face, for `ConditionKind.mirrored`."""
    names = ORDERS[order]
    return tuple((names.index(f"l_{part}"), names.index(f"r_{part}")) for part in ("eye", "brow", "ear"))


@dataclass(frozen=True)
class Merged:
    """The result of `merge_parts`."""

    written: int
    """The number of label maps."""
    parts: dict[str, int]
    """The number of label maps that have each part."""
    findings: list[Finding]
    """The parts that make their face unusable, and the faces without skin."""


def merge_parts(
    path: str | Path, out: str | Path, *, order: ClassOrder, progress: Callable[[int, int], None] | None = None
) -> Merged:
    """Write one label map for each face of a folder or zip of parts into the folder `out`, an index PNG of mode L.

    A map has the name of the face's image, without leading zeros: 00007_skin.png gives 7.png. A face gives no map if
    one of its parts cannot be read, differs in size or has two files; the result lists such parts. `progress` is called
    with (faces done, all faces).

    Raises PixgraftError if `path` holds no parts, or if `out` cannot be written to.
    """
    source = open_source(path)
    faces: dict[str, dict[str, list[str]]] = {}
    for name in source.names:
        match = _PART.fullmatch(PurePosixPath(name).stem)
        if match:
            face = str(int(match[1])) if match[1].isdecimal() else match[1]
            faces.setdefault(face, {}).setdefault(match[2], []).append(name)
    if not faces:
        raise PixgraftError(f"{path}: no parts of faces, named as 00000_skin.png is: give CelebAMask-HQ-mask-anno")

    check_made(Path(out), source.path, (Path(out) / f"{face}.png" for face in faces))

    def merge(face: str) -> Finding | None:
        labels = _painted(faces[face], source.read, ORDERS[order])
        if isinstance(labels, Finding):
            return labels
        write_image(Path(out) / f"{face}.png", labels)
        return None if "skin" in faces[face] else Finding(f"{face}.png", "no skin", usable=True)

    findings: list[Finding] = []
    counts: Counter[str] = Counter()
    written = 0
    with contextlib.ExitStack() as stack:
        stack.callback(source.close)
        stack.enter_context(removed_if_empty(Path(out)))
        output_folder(Path(out))
        for face, finding in stack.enter_context(contextlib.closing(in_threads(merge, list(faces), progress))):
            if finding:
                findings.append(finding)
            if not finding or finding.usable:
                written += 1
                counts.update(faces[face].keys())
    return Merged(written, {part: counts[part] for part in ORDERS[order][1:]}, findings)


def _painted(parts: dict[str, list[str]], read: Callable[[str], bytes], names: tuple[str, ...]) -> Tensor | Finding:
    """The label map uint8 (1, H, W) of a face from the files of its parts, or the fault of one file."""
    labels: npt.NDArray[np.uint8] | None = None
    for index, part in enumerate(names):
        files = parts.get(part, [])
        if len(files) > 1:
            return Finding(files[1], f"the same part as {files[0]}", usable=False)
        for name in files:
            try:
                mask = np.asarray(decode(read(name), name).convert("L")) > 127
            except PixgraftError as error:
                return Finding(name, without_name(name, error), usable=False)
            if labels is None:
                labels = np.zeros(mask.shape, dtype=np.uint8)
            if mask.shape != labels.shape:
                height, width = mask.shape
                return Finding(name, f"{width} x {height} pixels, another size than the parts before it", usable=False)
            labels[mask] = index
    assert labels is not None
    return torch.from_numpy(labels).unsqueeze(0)


@dataclass(frozen=True)
class DetectedOrder:
    """The class order of some label maps."""

    order: ClassOrder | None
    """None if the label maps do not determine it."""
    votes: dict[ClassOrder, int]
    """The number of signs of each order; a face has at most two."""


def detect_order(masks: Iterable[Tensor]) -> DetectedOrder:
    """The order of 19-class label maps, class indices (1, H, W) or (H, W) each, by the place and size of parts.

    The eyes (classes 4 and 5) and a lip (12) have the same numbers in both. Class 2 is either the nose, between them,
    or a brow, above the eyes; class 13 either the hair or the lower lip, which is not much larger than the upper one.
    An order needs at least two signs and nine in ten of all. A few dozen faces are enough.
    """
    votes: dict[ClassOrder, int] = dict.fromkeys(ORDERS, 0)
    for mask in masks:
        for order in _signs(mask.reshape(mask.shape[-2:])):
            votes[order] += 1
    total = sum(votes.values())
    clear = [order for order, count in votes.items() if total >= 2 and count >= 0.9 * total]
    return DetectedOrder(clear[0] if clear else None, votes)


def _signs(mask: Tensor) -> list[ClassOrder]:
    """The orders that one label map (H, W) is a sign of."""
    signs: list[ClassOrder] = []
    areas = torch.bincount(mask.flatten().long(), minlength=len(ORDERS["face-parsing"])).tolist()
    lip = areas[12]
    if not lip:
        return signs
    if areas[2] and areas[4] and areas[5]:
        start = _centre((mask == 4) | (mask == 5))
        axis = _centre(mask == 12) - start
        place = float((_centre(mask == 2) - start) @ axis / axis.square().sum().clamp_min(1))  # eyes 0, lip 1
        if abs(place) > 0.1:
            signs.append("celebamask-hq" if place > 0 else "face-parsing")
    hair_or_lip = areas[13] / lip
    if hair_or_lip > 8:
        signs.append("celebamask-hq")
    elif 0 < hair_or_lip < 4:
        signs.append("face-parsing")
    return signs


def _centre(pixels: Tensor) -> Tensor:
    """The mean (row, column) of the True pixels."""
    return pixels.nonzero().double().mean(0)
