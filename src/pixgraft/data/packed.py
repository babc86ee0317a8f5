"""Packed data: one file of uint8 images, and conditions, at one size, which is mapped into memory and decodes nothing.

The file holds, one after the other:

- 4,096 bytes: `MAGIC`, then the index's place and length (8 bytes each, little-endian) and its SHA-256;
- the items, each an image (3, S, S) and its condition (C, S, S), if there are any, as raw bytes;
- the SHA-256 of each item, 32 bytes each;
- the index: `PackIndex` as JSON, with the SHA-256 of those digests.

A file comes from a disk, possibly from a stranger. On opening, the index is read within a bound and parsed by type, its
sizes are held against the file's, and the hashes of the index and of the digests are compared. An item is compared with
its digest when it is first read, so that opening a large file takes no longer; `pixgraft data check` reads them all.
"""

import contextlib
import hashlib
import json
import mmap
import os
import struct
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pixgraft.data.conditions import Color, ConditionKind
from pixgraft.data.frame import Frame
from pixgraft.data.pairs import ItemSource, pair_key
from pixgraft.data.sources import is_image
from pixgraft.data.splits import Split
from pixgraft.errors import PixgraftError
from pixgraft.files import open_regular
from pixgraft.records import from_dict

SUFFIX = ".pack"
MAGIC = b"pixgraft pack 1\n"
START = 4096
"""Bytes before the first item: a page."""
DIGEST = 32
MAX_SIDE = 2**14
INDEX_BYTES = 2**27
"""The largest index that is read, of some million names, as of a zip's directory."""
PREAMBLE = struct.Struct(f"<{len(MAGIC)}sQQ{DIGEST}s")
_FILE_BYTES = 2**50


@dataclass(frozen=True, kw_only=True)
class PackOrigin:
    """What was packed."""

    path: str
    """The folder or zip, as it was given."""
    bytes: int
    """Of all image and condition files together."""
    sha256: str
    """Of the lines "DIGEST  NAME", as sha256sum writes them, of the images and then of the conditions."""


@dataclass(frozen=True, kw_only=True)
class PackIndex:
    """What a packed file holds."""

    size: int
    """Side of the images in pixels."""
    kind: str = ""
    """Of the conditions, as in `ConditionKind`; empty for images alone."""
    classes: int = 0
    colors: tuple[Color, ...] = ()
    """For kind color: the palette that the label maps were read with."""
    names: tuple[str, ...]
    """The image files, sorted, as a folder's or zip's."""
    condition_names: tuple[str, ...] = ()
    digests: str
    """SHA-256 of all items' digests."""
    origin: PackOrigin
    frame: Frame | None = None
    """That of the packed images."""

    def __post_init__(self) -> None:
        """Raises PixgraftError for an index that `write_pack` does not write."""
        if not 1 <= self.size <= MAX_SIDE or self.kind not in ("", "labels", "color", "sketch", "image"):
            raise PixgraftError("the index has a size or a kind that there is not")
        if list(self.names) != sorted(set(self.names)) or not self.names:
            raise PixgraftError("the index has names that are not sorted, or repeated")
        try:
            "".join(self.names + self.condition_names).encode()
        except UnicodeEncodeError:
            raise PixgraftError("the index has a name that is no UTF-8") from None
        if not all(map(is_image, self.names + self.condition_names)):
            raise PixgraftError("the index has a name that is not an image's")
        if len(self.condition_names) != (len(self.names) if self.kind else 0):
            raise PixgraftError("the index has another number of conditions than of images")

    @property
    def condition(self) -> ConditionKind | None:
        """How the conditions were read. Raises PixgraftError if there is no such kind."""
        kind = {"kind": self.kind, "classes": self.classes, "colors": self.colors}
        return ConditionKind(**kind) if self.kind else None  # type: ignore[arg-type]

    @property
    def shapes(self) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        """Of an item's image and condition; the latter without channels if there is none."""
        channels = kind.stored_channels if (kind := self.condition) else 0
        return (3, self.size, self.size), (channels, self.size, self.size)

    @property
    def item_bytes(self) -> int:
        """Bytes of one item."""
        return sum(channels * self.size**2 for channels, *_ in self.shapes)


def is_packed(path: str | Path) -> bool:
    """Whether a path is that of a packed file, by its suffix."""
    return Path(path).suffix.lower() == SUFFIX


class PackedSource(ItemSource):
    """The items of a packed file, decoded already; built by `open_packed`."""

    def __init__(self, path: Path, index: PackIndex, mapped: mmap.mmap, places: Sequence[int]) -> None:
        """`mapped` is the whole file; `places` are the numbers of the items that this source has."""
        self.path, self.index, self._mapped, self._places = path, index, mapped, list(places)
        count = len(index.names)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tensor cannot be written to, and nobody does
            items = torch.from_numpy(np.frombuffer(mapped, np.uint8, count * index.item_bytes, START))
        self._items = items.view(count, -1)
        self._sound = bytearray(count)
        self._kind = index.condition
        self.names = [index.names[place] for place in places]
        self.condition_names = [index.condition_names[place] for place in places] if self._kind else []
        self.unpaired, self.skipped = [], []

    def check(self, size: int, kind: ConditionKind | None) -> None:
        """Raise PixgraftError, in one line, unless the items are of this size and their conditions of this kind."""
        if size != self.index.size:
            problem = f"images of {self.index.size} pixels, where {size} are needed"
            raise PixgraftError(f"{self.path}: {problem}: pack the folder with --size {size}")
        ours, asked = ((each and (each.kind, each.classes, each.colors)) for each in (self._kind, kind))
        if ours != asked:
            held, needed = (_described(each) for each in (self._kind, kind))
            same = " of other colours" if held == needed else ""
            problem = f"packed with {held}{same}, where {needed} are needed"
            raise PixgraftError(f"{self.path}: {problem}: pack the folder with those (data pack --pairs)")

    def item(self, index: int) -> tuple[Tensor, Tensor | None]:
        """Image (3, S, S) and condition (C, S, S) or None, uint8: views of the file, not to be written to.

        Raises PixgraftError, which names the file and the item, if its bytes are not those that were packed.
        """
        place = self._places[index]
        row = self._items[place]
        self._announce(START + place * len(row), len(row))
        image_shape, condition_shape = self.index.shapes
        image, condition = row.tensor_split([3 * self.index.size**2])
        if not self._sound[place]:
            expected = START + self._items.numel() + place * DIGEST
            if hashlib.sha256(row.numpy().data).digest() != self._mapped[expected : expected + DIGEST]:
                raise PixgraftError(f"{self.path}: {self.names[index]}: damaged in the packed file; pack the data anew")
            if self._kind is not None and self._kind.has_classes and int(condition.max()) >= self._kind.classes:
                problem = f"a class beyond the {self._kind.classes} there are"
                raise PixgraftError(f"{self.path}: {self.condition_names[index]}: {problem}; pack the data anew")
            self._sound[place] = 1
        return image.view(image_shape), condition.view(condition_shape) if self._kind else None

    def _announce(self, start: int, length: int) -> None:
        """Have the system read these bytes at once, not page by page."""
        if hasattr(mmap, "MADV_WILLNEED"):
            page = start // mmap.PAGESIZE * mmap.PAGESIZE
            with contextlib.suppress(OSError):
                self._mapped.madvise(mmap.MADV_WILLNEED, page, start + length - page)

    def read_image(self, index: int) -> bytes:
        """Raises PixgraftError: a packed file has no image files. Use `item`."""
        raise PixgraftError(f"{self.path}: is packed and has no image files: give the folder that it was made of")

    read_condition = read_image

    def without(self, indices: Iterable[int]) -> "PackedSource":
        excluded = set(indices)
        places = [place for index, place in enumerate(self._places) if index not in excluded]
        return PackedSource(self.path, self.index, self._mapped, places)

    def frame(self) -> Frame | None:
        return self.index.frame

    def close(self) -> None:
        """The file is unmapped once its last item is not used any more."""


def _described(kind: ConditionKind | None) -> str:
    if kind is None:
        return "no conditions"
    return f"conditions of kind {kind.kind}" + (f" ({kind.classes} classes)" if kind.has_classes else "")


def open_packed(path: str | Path, *, under: str = "", images: str = "images") -> PackedSource:
    """The items of a packed file; those that `under` selects by their names, as `open_images` and `open_pairs` do.

    `images` is the folder of the images among pairs. Raises PixgraftError, which names the file, if it is missing, no
    regular file, cut short, damaged or edited; and if nothing is beneath `under`, or the list names what is not packed.
    """
    path, split = Path(path), Split(under)
    try:
        with open_regular(path, _FILE_BYTES) as file:
            return _opened(path, file.fileno(), file.read(PREAMBLE.size), split, images)
    except FileNotFoundError:
        raise PixgraftError(f"{path}: no such file: check the path, or make it with pixgraft data pack") from None
    except OSError as error:
        raise PixgraftError(f"{path}: cannot be read: {error.strerror or error}") from error


def _opened(path: Path, descriptor: int, preamble: bytes, split: Split, images: str) -> PackedSource:
    refusal = PixgraftError(f"{path}: not a packed file, cut short or damaged: make it anew with pixgraft data pack")
    if len(preamble) < PREAMBLE.size:
        raise refusal
    magic, place, length, digest = PREAMBLE.unpack(preamble)
    if magic != MAGIC or length > INDEX_BYTES or place + length != os.fstat(descriptor).st_size:
        raise refusal
    mapped = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
    text = mapped[place : place + length]
    if hashlib.sha256(text).digest() != digest:
        raise refusal
    try:
        index = from_dict(PackIndex, json.loads(text), str(path))
        count, item_bytes = len(index.names), index.item_bytes
    except PixgraftError as error:
        raise PixgraftError(f"{path}: {str(error).removeprefix(f'{path}: ')}: pack the data anew") from None
    except (ValueError, RecursionError):
        raise refusal from None
    end = START + count * item_bytes
    if place != end + count * DIGEST:
        raise refusal
    if hashlib.sha256(mapped[end:place]).hexdigest() != index.digests:
        raise refusal
    if hasattr(mmap, "MADV_RANDOM"):  # items are read in random order
        with contextlib.suppress(OSError):
            mapped.madvise(mmap.MADV_RANDOM)
    keys = [pair_key(name, images) if index.kind else name for name in index.names]  # pairs: above or below `images`
    places = [place for place, key in enumerate(keys) if split.holds(key)]
    split.check(path, (keys[place] for place in places))
    if not places:
        folders = sorted({name.split("/")[0] + "/" for name in index.names if "/" in name})
        has = ", ".join(folders[:5]) or "no folders"
        raise PixgraftError(f"{path}: nothing under {split.prefix} (it has {has}): give another --split")
    return PackedSource(path, index, mapped, places)
