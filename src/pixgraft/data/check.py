"""What is wrong with a folder or zip of images, or of images with conditions, found before training does."""

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

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
    name: str
    findings: tuple[Finding, ...]
    usable: bool
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

    def look(index: int) -> _Look:
        name = source.names[index]
        return _look(name, lambda: source.read(name), size)[0]

    return _survey(source.path, len(source.names), look, _skipped(source.skipped), progress)


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

    others = [Finding(each.name, each.problem, usable=False) for each in source.left_out]
    return _survey(source.path, len(source.names), look, others + _skipped(source.skipped), progress)


def _survey(
    path: Path,
    count: int,
    look: Callable[[int], _Look],
    others: list[Finding],
    progress: Callable[[int, int], None] | None,
) -> CheckReport:
    """What `look` says of each of `count` items, by a few threads; `others` come last."""
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
    return CheckReport(path, count, usable, findings + others, sizes, duplicates)


def _skipped(names: list[str]) -> list[Finding]:
    return [Finding(name, "skipped: its suffix is not an image's", usable=False) for name in names]


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
