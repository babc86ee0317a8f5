"""CelebAMask-HQ (Lee et al. 2020): its files of one facial part each merged into label maps, and its two class orders.

The data set is a PNG for each part of each face, NNNNN_PART.png in folders 0 to 14, white where the part is. Two
numberings of the 19 classes are about: that of the data set's own g_mask.py and that of face-parsing.PyTorch's
prepropess_data.py. Both paint the parts in the order of their numbers, a later one over an earlier.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pixgraft.data.check import Finding, without_name
from pixgraft.data.images import decode
from pixgraft.data.outputs import output_folder, write_image
from pixgraft.data.sources import open_source
from pixgraft.errors import PixgraftError

Order = Literal["celebamask-hq", "face-parsing"]

ORDERS: dict[Order, tuple[str, ...]] = {
    "celebamask-hq": (
        "background", "skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear", "mouth",
        "u_lip", "l_lip", "hair", "hat", "ear_r", "neck_l", "neck", "cloth",
    ),
    "face-parsing": (
        "background", "skin", "l_brow", "r_brow", "l_eye", "r_eye", "eye_g", "l_ear", "r_ear", "ear_r", "nose",
        "mouth", "u_lip", "l_lip", "neck", "neck_l", "cloth", "hair", "hat",
    ),
}  # fmt: skip
"""The names of classes 0 to 18: eye_g are glasses, ear_r is an earring, neck_l a necklace, mouth its inside."""

_PART = re.compile(rf"(.+)_({'|'.join(ORDERS['face-parsing'][1:])})")
_NEEDED = "skin"
_AGREEMENT = 0.9


def mirrored(order: Order) -> tuple[tuple[int, int], ...]:
    """The pairs of classes that change places in a mirrored face, for `ConditionKind.mirrored`."""
    names = ORDERS[order]
    return tuple((names.index(f"l_{part}"), names.index(f"r_{part}")) for part in ("eye", "brow", "ear"))


@dataclass(frozen=True)
class Merged:
    """What `merge_parts` made."""

    written: int
    """Label maps."""
    parts: dict[str, int]
    """In how many of them each part has a file; 0 for a part that none has."""
    findings: list[Finding]
    """Parts that make their face unusable, and faces without skin."""


def merge_parts(
    path: str | Path,
    out: str | Path,
    *,
    order: Order,
    progress: Callable[[int, int], None] | None = None,
) -> Merged:
    """Write one label map for each face of a folder or zip of parts into the folder `out`, an index PNG of mode L.

    The maps are named as the faces' images are, without leading zeros: 00007_skin.png and its like give 7.png. A face
    one of whose parts cannot be read, differs in size or is there twice gives none, and is told of in the result.
    `progress` is called with (faces done, faces in all).

    Raises PixgraftError if `path` holds no parts, or `out` cannot be written to.
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

    output_folder(Path(out), source.path)

    def merge(face: str) -> Finding | None:
        labels = _painted(faces[face], source.read, ORDERS[order])
        if isinstance(labels, Finding):
            return labels
        write_image(Path(out) / f"{face}.png", labels)
        return None if _NEEDED in faces[face] else Finding(f"{face}.png", f"no {_NEEDED}", usable=True)

    findings: list[Finding] = []
    counts: Counter[str] = Counter()
    written = 0
    executor = ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1))
    try:
        for done, (face, finding) in enumerate(zip(faces, executor.map(merge, faces), strict=True), start=1):
            if finding:
                findings.append(finding)
            if not finding or finding.usable:
                written += 1
                counts.update(faces[face].keys())
            if progress is not None:
                progress(done, len(faces))
    finally:
        executor.shutdown(cancel_futures=True)
        source.close()
    return Merged(written, {part: counts[part] for part in ORDERS[order][1:]}, findings)


def _painted(parts: dict[str, list[str]], read: Callable[[str], bytes], names: tuple[str, ...]) -> Tensor | Finding:
    """The label map uint8 (1, H, W) of a face whose parts lie in these files, or what is wrong with one of them."""
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
                shown = f"{mask.shape[1]} x {mask.shape[0]} pixels"
                return Finding(name, f"{shown}, another size than the parts before it", usable=False)
            labels[mask] = index
    assert labels is not None
    return torch.from_numpy(labels).unsqueeze(0)


@dataclass(frozen=True)
class Detection:
    """Which order some label maps are in."""

    order: Order | None
    """None where that cannot be told: ask."""
    votes: dict[Order, int]
    """How many signs speak for each; a face has two at most."""


def detect_order(masks: Iterable[Tensor]) -> Detection:
    """Tell the order of 19-class label maps, class indices (1, H, W) or (H, W) each, by where and how large parts are.

    The eyes (classes 4 and 5) and a lip (12) have the same numbers in both. Class 2 is either the nose, between them,
    or a brow, beyond the eyes; class 13 either the hair or the lower lip, which is not much larger than the upper one.
    An order is told if at least two signs are found and nine in ten speak for it. A few dozen faces are plenty.
    """
    votes: dict[Order, int] = dict.fromkeys(ORDERS, 0)
    for mask in masks:
        for order in _signs(mask.reshape(mask.shape[-2:])):
            votes[order] += 1
    total = sum(votes.values())
    clear = [order for order, count in votes.items() if total >= 2 and count >= _AGREEMENT * total]
    return Detection(clear[0] if clear else None, votes)


def _signs(mask: Tensor) -> list[Order]:
    """What one label map (H, W) speaks for."""
    found: list[Order] = []
    areas = torch.bincount(mask.flatten().long(), minlength=len(ORDERS["face-parsing"])).tolist()
    lip = areas[12]
    if not lip:
        return found
    if areas[2] and areas[4] and areas[5]:
        start = _centre((mask == 4) | (mask == 5))
        axis = _centre(mask == 12) - start
        place = float((_centre(mask == 2) - start) @ axis / axis.square().sum().clamp_min(1))  # eyes 0, lip 1
        if abs(place) > 0.1:
            found.append("celebamask-hq" if place > 0 else "face-parsing")
    hair_or_lip = areas[13] / lip
    if hair_or_lip > 8:
        found.append("celebamask-hq")
    elif 0 < hair_or_lip < 4:
        found.append("face-parsing")
    return found


def _centre(pixels: Tensor) -> Tensor:
    """The mean (row, column) of the True ones."""
    return pixels.nonzero().double().mean(0)
