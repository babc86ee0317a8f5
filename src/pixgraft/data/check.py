"""What is wrong with a folder or zip of images, found before training does."""

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pixgraft.data.dataset import MAX_ENLARGEMENT
from pixgraft.data.images import SUFFIXES, decode, image_format
from pixgraft.data.sources import ImageSource
from pixgraft.errors import PixgraftError


@dataclass(frozen=True)
class Finding:
    """One thing to know about one file; a file may have several."""

    name: str
    """The file, as the source names it."""
    problem: str
    """One line, without the name."""
    usable: bool
    """True if training can use the file all the same."""


@dataclass(frozen=True)
class CheckReport:
    """What `check` found."""

    path: Path
    checked: int
    """How many image files there are."""
    usable: int
    """How many of them training can use; duplicates count."""
    findings: list[Finding]
    """In the order of the names; files that are no images by their suffix come last."""
    sizes: tuple[int, int] | None
    """The smallest and the largest shorter side in pixels, of all that decoded; None if nothing did."""
    duplicates: int
    """How many usable files show the same pixels as one before them."""


@dataclass(frozen=True)
class _Look:
    problem: str = ""
    notes: tuple[str, ...] = ()
    side: int = 0
    digest: bytes = b""


def check(
    source: ImageSource, *, size: int, progress: Callable[[int, int], None] | None = None
) -> CheckReport:
    """Decode every image of `source` and list what is unusable or odd for training at `size` x `size` pixels.

    Unusable, as in training: files that cannot be read or decoded, have no image's suffix, or would have to be
    enlarged more than `MAX_ENLARGEMENT` times. Odd but usable: an image that is enlarged at all, a suffix that
    promises another format, and pixels seen in a file before.
    `progress` is called in this thread with (files done, files in all).
    """
    findings: list[Finding] = []
    sides: list[int] = []
    first: dict[bytes, str] = {}
    usable = duplicates = 0
    executor = ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1))
    try:
        looks = executor.map(lambda name: _look(source, name, size), source.names)
        for done, (name, look) in enumerate(zip(source.names, looks, strict=True), start=1):
            if look.side:
                sides.append(look.side)
            findings += [Finding(name, note, usable=not look.problem) for note in look.notes]
            if look.problem:
                findings.append(Finding(name, look.problem, usable=False))
            else:
                usable += 1
                original = first.setdefault(look.digest, name)
                if original != name:
                    duplicates += 1
                    findings.append(Finding(name, f"the same pixels as {original}", usable=True))
            if progress is not None:
                progress(done, len(source.names))
    finally:
        executor.shutdown(cancel_futures=True)  # an interrupt does not wait for the files not yet begun
    skipped = "skipped: its suffix is not an image's"
    findings += [Finding(name, skipped, usable=False) for name in source.skipped]
    sizes = (min(sides), max(sides)) if sides else None
    return CheckReport(source.path, len(source.names), usable, findings, sizes, duplicates)


def _look(source: ImageSource, name: str, size: int) -> _Look:
    try:
        data = source.read(name)
        image = decode(data, name)
    except PixgraftError as error:
        return _Look(problem=str(error).split(f"{name}: ", 1)[-1])
    kind, suffix = image_format(data), PurePosixPath(name).suffix.lower()
    notes: tuple[str, ...] = ()
    if kind != SUFFIXES[suffix]:
        notes = (f"a {kind} file, though its name ends in {suffix}",)
    side = min(image.size)
    shown = f"{image.width} x {image.height}"
    if side * MAX_ENLARGEMENT < size:
        problem = f"too small: {shown}, needs {-(-size // MAX_ENLARGEMENT)} on the shorter side"
        return _Look(problem=problem, notes=notes, side=side)
    if side < size:
        notes += (f"small: {shown}, will be enlarged",)
    digest = hashlib.blake2b(str(image.size).encode() + image.tobytes(), digest_size=16).digest()
    return _Look(notes=notes, side=side, digest=digest)
