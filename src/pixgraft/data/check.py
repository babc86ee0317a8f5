"""What is wrong with a folder or zip of images, or of images with conditions, found before training does."""

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal

from pixgraft.data.conditions import ConditionKind
from pixgraft.data.dataset import MAX_ENLARGEMENT
from pixgraft.data.images import SUFFIXES, decode, image_format
from pixgraft.data.pairs import PairedSource, read_condition
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
    """False if it keeps an image, a condition or a pair out of training."""


@dataclass(frozen=True)
class CheckReport:
    """What `check` found."""

    path: Path
    what: Literal["image files", "pairs"]
    """What is counted."""
    checked: int
    """How many there are."""
    usable: int
    """How many of them training can use; duplicates count."""
    left_out: int
    """How many image files are in no pair."""
    findings: list[Finding]
    """In the order of the names; files in no pair, and those that are no images by their suffix, come last."""
    sizes: tuple[int, int] | None
    """The smallest and the largest shorter side in pixels, of all that decoded; None if nothing did."""
    duplicates: int
    """How many usable images show the same pixels as one before them."""

    @property
    def summary(self) -> str:
        """The counts in one line."""
        parts = [f"{self.usable:,} usable", f"{self.checked - self.usable:,} unusable"]
        if self.what == "pairs":
            parts.append(f"{self.left_out:,} unusable files in no pair")
        parts.append(f"{self.duplicates:,} duplicates")
        sides = f"; shorter sides of {self.sizes[0]} to {self.sizes[1]} pixels" if self.sizes else ""
        return f"{self.checked:,} {self.what}: {', '.join(parts)}{sides}"


@dataclass(frozen=True)
class _Look:
    name: str
    findings: tuple[Finding, ...]
    usable: bool
    side: int = 0
    digest: bytes = b""


def check(
    source: ImageSource, *, size: int, progress: Callable[[int, int], None] | None = None
) -> CheckReport:
    """Decode every image of `source` and list what is unusable or odd for training at `size` x `size` pixels.

    Unusable, as in training: images that cannot be read or decoded, or would have to be enlarged more than
    `MAX_ENLARGEMENT` times. Odd but no hindrance: an image that is enlarged at all, a suffix that promises another
    format, pixels seen in a file before, and files without an image's suffix, which training passes over.
    `progress` is called in this thread with (files done, files in all).
    """

    def look(index: int) -> _Look:
        name = source.names[index]
        return _look(name, lambda: source.read(name), size)[0]

    seen = _survey(source.path, len(source.names), look, progress)
    return replace(seen, findings=seen.findings + _skipped(source.skipped))


def check_pairs(
    source: PairedSource, *, size: int, kind: ConditionKind, progress: Callable[[int, int], None] | None = None
) -> CheckReport:
    """As `check`, of pairs: what is counted are pairs, and duplicates are of their images.

    Unusable besides: a condition that `PairedDataset` refuses (a value beyond the classes, a colour without a class,
    one class alone, another shape than the image's), and what `source` left out (open it with `skip_bad`).
    """

    def look(index: int) -> _Look:
        name, condition_name = source.shown(index)
        seen, image_size = _look(name, lambda: source.read_image(index), size)
        try:
            read_condition(source, index, image_size, size=size, kind=kind)
        except PixgraftError as error:
            notes = tuple(replace(finding, usable=False) for finding in seen.findings)
            problem = Finding(condition_name, without_name(condition_name, error), usable=False)
            return replace(seen, findings=(*notes, problem), usable=False)
        return seen

    found = _survey(source.path, len(source.names), look, progress)
    others = [Finding(each.name, each.problem, usable=False) for each in source.left_out]
    findings = found.findings + others + _skipped(source.skipped)
    return replace(found, what="pairs", left_out=len(others), findings=findings)


def _survey(
    path: Path,
    count: int,
    look: Callable[[int], _Look],
    progress: Callable[[int, int], None] | None,
) -> CheckReport:
    """What `look` says of each of `count` items, by a few threads."""
    findings: list[Finding] = []
    sides: list[int] = []
    first: dict[bytes, str] = {}
    usable = duplicates = 0
    executor = ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1))
    try:
        for done, seen in enumerate(executor.map(look, range(count)), start=1):
            if seen.side:
                sides.append(seen.side)
            findings += seen.findings
            if seen.usable:
                usable += 1
                original = first.setdefault(seen.digest, seen.name)
                if original != seen.name:
                    duplicates += 1
                    findings.append(Finding(seen.name, f"the same pixels as {original}", usable=True))
            if progress is not None:
                progress(done, count)
    finally:
        executor.shutdown(cancel_futures=True)  # an interrupt does not wait for the files not yet begun
    sizes = (min(sides), max(sides)) if sides else None
    return CheckReport(path, "image files", count, usable, 0, findings, sizes, duplicates)


def _skipped(names: list[str]) -> list[Finding]:
    return [Finding(name, "passed over: its suffix is not an image's", usable=True) for name in names]


def without_name(name: str, error: PixgraftError) -> str:
    """An error's line without the file's name that begins it, and that name's folder; for a `Finding`."""
    return str(error).split(f"{name}: ", 1)[-1]


def _look(name: str, read: Callable[[], bytes], size: int) -> tuple[_Look, tuple[int, int] | None]:
    """What there is to say of one image, and its (width, height), None if it does not decode."""
    try:
        data = read()
        image = decode(data, name)
    except PixgraftError as error:
        return _Look(name, (Finding(name, without_name(name, error), usable=False),), usable=False), None
    kind, suffix = image_format(data), PurePosixPath(name).suffix.lower()
    notes: list[str] = []
    if kind != SUFFIXES[suffix]:
        notes.append(f"a {kind} file, though its name ends in {suffix}")
    side = min(image.size)
    shown = f"{image.width} x {image.height}"
    usable = side * MAX_ENLARGEMENT >= size
    if not usable:
        notes.append(f"too small: {shown}, needs {-(-size // MAX_ENLARGEMENT)} on the shorter side")
    elif side < size:
        notes.append(f"small: {shown}, will be enlarged")
    digest = hashlib.blake2b(str(image.size).encode() + image.tobytes(), digest_size=16).digest()
    findings = tuple(Finding(name, note, usable) for note in notes)
    return _Look(name, findings, usable, side, digest), image.size
