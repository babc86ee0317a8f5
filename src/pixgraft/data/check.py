"""The check of a folder or zip of images, or of images with conditions: it names every fault before training."""

import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pixgraft.data.conditions import ConditionKind
from pixgraft.data.dataset import MAX_ENLARGEMENT, read_condition
from pixgraft.data.images import SUFFIXES, decode, image_format
from pixgraft.data.packed import PackedSource
from pixgraft.data.pairs import ItemSource
from pixgraft.data.threads import in_threads
from pixgraft.errors import PixgraftError


@dataclass(frozen=True)
class Finding:
    """One remark about one file; a file may have several."""

    name: str
    """The file, as the source names it."""
    problem: str
    """One line, without the name."""
    usable: bool
    """False if it excludes an image, a condition or a pair from training."""


@dataclass(frozen=True)
class CheckReport:
    """The result of `check`."""

    path: Path
    checked: int
    """Images, or pairs if there are conditions."""
    usable: int
    """The number of them that training can use, duplicates included."""
    unpaired: int | None
    """Image files that are in no pair; None for images alone."""
    findings: list[Finding]
    """In the order of the names; files in no pair, and those without an image's suffix, come last."""
    sizes: tuple[int, int] | None
    """The smallest and the largest shorter side in pixels of the images that decoded; None if none did."""
    duplicates: int
    """The number of usable images with the same pixels as an earlier one."""

    @property
    def summary(self) -> str:
        """The counts in one line."""
        parts = [f"{self.usable:,} usable", f"{self.checked - self.usable:,} unusable"]
        if self.unpaired is not None:
            parts.append(f"{self.unpaired:,} unusable files in no pair")
        parts.append(f"{self.duplicates:,} duplicates")
        sides = f"; shorter sides of {self.sizes[0]} to {self.sizes[1]} pixels" if self.sizes else ""
        return f"{self.checked:,} {'image files' if self.unpaired is None else 'pairs'}: {', '.join(parts)}{sides}"


@dataclass(frozen=True)
class _ItemCheck:
    name: str
    findings: list[Finding]
    usable: bool
    size: tuple[int, int] | None
    """The image's (width, height); None if it does not decode."""
    digest: bytes


def check(
    source: ItemSource, *, size: int, kind: ConditionKind | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CheckReport:  # fmt: skip
    """Decode every image of `source`, and its conditions of `kind`, and list what is unusable or odd for training.

    Unusable, as in training: files that `Dataset` refuses at `size`, such as an image that would be enlarged more than
    `MAX_ENLARGEMENT` times, and files in no pair (open the source with `skip_bad`). Odd but usable: an image that is
    enlarged, a suffix of another format, pixels of an earlier file, and files without an image's suffix, which
    training ignores. `progress` is called in this thread with (items done, items in all).
    """
    findings: list[Finding] = []
    sides: list[int] = []
    originals: dict[bytes, str] = {}
    usable = duplicates = 0
    count = len(source.names)
    checks = in_threads(lambda index: _check_item(source, index, size, kind), range(count), progress)
    with contextlib.closing(checks):
        for _, item in checks:
            if item.size is not None:
                sides.append(min(item.size))
            findings += item.findings
            if item.usable:
                usable += 1
                original = originals.setdefault(item.digest, item.name)
                if original != item.name:
                    duplicates += 1
                    findings.append(Finding(item.name, f"the same pixels as {original}", usable=True))
    findings += [Finding(file.name, file.problem, usable=False) for file in source.unpaired]
    findings += [Finding(name, "passed over: its suffix is not an image's", usable=True) for name in source.skipped]
    unpaired = None if kind is None else len(source.unpaired)
    sizes = (min(sides), max(sides)) if sides else None
    return CheckReport(source.path, count, usable, unpaired, findings, sizes, duplicates)


def without_name(name: str, error: PixgraftError) -> str:
    """An error's line without the file's name that begins it, and that name's folder; for a `Finding`."""
    return str(error).split(f"{name}: ", 1)[-1]


def _check_packed(source: PackedSource, index: int) -> _ItemCheck:
    """Whether an item of a packed file is what was packed."""
    name, size = source.names[index], source.index.size
    try:
        image, _ = source.item(index)
    except PixgraftError as error:
        return _ItemCheck(name, [Finding(name, without_name(name, error), usable=False)], False, None, b"")
    digest = hashlib.blake2b(image.numpy().data, digest_size=16).digest()
    return _ItemCheck(name, [], True, (size, size), digest)


def _check_item(source: ItemSource, index: int, size: int, kind: ConditionKind | None) -> _ItemCheck:
    """The findings about an image and, if `kind` is given, its condition."""
    name = source.names[index]
    if isinstance(source, PackedSource):
        return _check_packed(source, index)
    remarks: list[tuple[str, str]] = []
    shape: tuple[int, int] | None = None
    usable, digest = False, b""
    try:
        data = source.read_image(index)
        image = decode(data, name)
    except PixgraftError as error:
        remarks.append((name, without_name(name, error)))
    else:
        shape, side = image.size, min(image.size)
        found, suffix = image_format(data), PurePosixPath(name).suffix.lower()
        if found != SUFFIXES[suffix]:
            remarks.append((name, f"a {found} file, though its name ends in {suffix}"))
        usable = side * MAX_ENLARGEMENT >= size
        pixels = f"{image.width} x {image.height}"
        if not usable:
            needed = -(-size // MAX_ENLARGEMENT)
            remarks.append((name, f"too small: {pixels}, needs {needed} on the shorter side"))
        elif side < size:
            remarks.append((name, f"small: {pixels}, will be enlarged"))
        digest = hashlib.blake2b(str(shape).encode() + image.tobytes(), digest_size=16).digest()
    if kind is not None:
        try:
            read_condition(source, index, shape, size=size, kind=kind)
        except PixgraftError as error:
            usable, condition = False, source.condition_names[index]
            remarks.append((condition, without_name(condition, error)))
    return _ItemCheck(name, [Finding(*remark, usable) for remark in remarks], usable, shape, digest)
