"""Subjects: the rows of a table, each a sequence of image groups; and the images of folders as such rows.

A group holds the samples of one condition, or a single image. Groups are the units that a bootstrap draws, so that ten
outputs of one target do not count as ten independent images. Shape letters: K images of a group, H x W pixels each.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from torch import Tensor

from pixgraft.data.dataset import Dataset
from pixgraft.data.images import decode, fit, pixels
from pixgraft.data.sources import ImageSource, open_source
from pixgraft.errors import PixgraftError

CACHE_BYTES = 2**29
"""Size of the cache of decoded images."""


@dataclass(frozen=True)
class Group:
    """Images and the inputs that they are measured by."""

    unit: int
    images: Tensor
    """uint8 (K, 3, H, W)."""
    inputs: dict[str, Tensor] = field(default_factory=dict)
    """One entry for each image, by the keys of `INPUTS`. "reference", "source", "other": uint8 (K, 3, H, W), as is
    "condition", a picture of what they are made from. "lr" and "small": (K, C, L, L) in 0..255. "seconds",
    "processor": (K,). "coarse", "middle", "fine": how far the last step moved the codes, (K,)."""
    people: tuple[str, ...] = ()
    """For each image the name of the one whose person counts in it; empty if it shows nobody in particular."""
    pictures: dict[str, Tensor] = field(default_factory=dict)
    """What a report's sheet shows after the first image, uint8 (3, H, W), by caption."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One row of the table."""

    name: str
    units: int
    """The number of groups."""
    group: Callable[[int], Group]
    """The group of a unit. Raises PixgraftError if an image of it is unusable."""
    samples: int = 1
    """Images of a group."""
    inputs: frozenset[str] = frozenset()
    """The keys of its groups' inputs, and "samples" if a group has several images."""
    identity: dict[str, Any] = field(default_factory=dict)
    """Entries of the result that identify it, such as the weights' hash."""
    paired: str | None = None
    """The table's differences are those of each two rows with the same text here; None: it is in none."""
    shown: bool = True
    """Whether the report's sheet has a column of its images."""
    reals: "Reals | None" = None
    """The reals that it is compared with, if they are not those of the whole table."""

    @property
    def images(self) -> int:
        """The number of images of all groups."""
        return self.units * self.samples


class Reals(Protocol):
    """A set of images to compare with."""

    names: list[str]
    """The image files, sorted, relative to the folder's or zip's root."""

    @property
    def path(self) -> Path:
        """The path that errors name."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Tensor:
        """uint8 (3, H, W)."""

    def description(self) -> dict[str, Any]:
        """Entries of the protocol that identify the images."""


class Pictures:
    """The images of a folder or zip as uint8 (3, H, W), all of one size."""

    def __init__(self, path: str | Path, *, split: str = "", size: int = 0) -> None:
        """`size` fits every image to that square; 0 takes them as they are, if they agree in size."""
        self.source: ImageSource = open_source(path, under=split)
        self.names, self.path = self.source.names, self.source.path
        self.split, self.size = split, size
        if size < 0:
            raise PixgraftError(f"--size {size}: choose a number of pixels, or 0 to take images as they are")
        self._shape: tuple[int, int] | None = None
        # Only fitted images are read repeatedly, as sources of several targets.
        cached = min(4096, CACHE_BYTES // (3 * size * size)) if size else 16
        self._read = lru_cache(max(cached, 16))(self._decoded)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Tensor:
        """Image `index`. Raises PixgraftError, which names it, if it is unusable or of another size than the first."""
        return self._read(index)

    def _decoded(self, index: int) -> Tensor:
        name = self.names[index]
        image = decode(self.source.read(name), name)
        if self.size:
            image = fit(image, self.size)
        if self._shape is None:
            first = image if self.size or index == 0 else decode(self.source.read(self.names[0]), self.names[0])
            self._shape = first.size
        if image.size != self._shape:
            (width, height), first_name = self._shape, self.names[0]
            sizes = f"{name} is {image.width} x {image.height}, {first_name} is {width} x {height}"
            raise PixgraftError(f"{self.path}: mixes sizes: {sizes}: give --size N to fit them all")
        return pixels(image)

    def description(self) -> dict[str, Any]:
        """The path's name, the split, the number of images, and a hash of names and bytes."""
        files = ((name, self.source.read(name)) for name in self.names)
        return {"name": self.path.name, "split": self.split, **hashed(files, len(self)), "fitted_to": self.size or None}


class References:
    """The images of pairs, as a set of reals."""

    def __init__(self, pairs: Dataset) -> None:
        self._pairs, self.path, self.names = pairs, pairs.source.path, pairs.source.names

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> Tensor:
        return self._pairs[index][0]

    def description(self) -> dict[str, Any]:
        """As `Pictures.description`, for images and conditions."""
        source = self._pairs.source
        files = (
            file
            for index, names in enumerate(zip(source.names, source.condition_names, strict=True))
            for file in zip(names, (source.read_image(index), source.read_condition(index)), strict=True)
        )
        return {"name": source.path.name, **hashed(files, len(self)), "fitted_to": self._pairs.size}


def within(split: str, name: str) -> str:
    """The folder of a class within a split; the split itself if there is no class."""
    return f"{split.strip('/')}/{name}".strip("/") if name else split


def hashed(files: Iterable[tuple[str, bytes]], images: int) -> dict[str, Any]:
    """The number of images, and the SHA-256 of the names and bytes of their files."""
    digest = hashlib.sha256()
    for name, data in files:
        digest.update(f"{name}\0{hashlib.sha256(data).hexdigest()}\n".encode())
    return {"images": images, "sha256": digest.hexdigest()}


def single_images(name: str, images: Reals) -> Subject:
    """Images without inputs, each a group."""
    return Subject(
        name=name, units=len(images), identity=images.description(),
        group=lambda unit: Group(unit, images[unit].unsqueeze(0)),
    )  # fmt: skip


def images_with_references(name: str, images: Pictures, references: Pictures, pairing: str) -> Subject:
    """Images and their references, paired by "name" (the stem) or "order".

    Raises PixgraftError, which names a file, if the sides do not match.
    """
    pairs = matched(images, references, pairing)

    def group(unit: int) -> Group:
        left, right = pairs[unit]
        image, reference = images[left], references[right]
        if image.shape != reference.shape:
            sizes = " and ".join(f"{each.shape[2]} x {each.shape[1]}" for each in (image, reference))
            names = f"{images.names[left]} and {references.names[right]}"
            raise PixgraftError(f"{names}: a pair of sizes {sizes}: give --size N to fit both")
        return Group(unit, image.unsqueeze(0), {"reference": reference.unsqueeze(0)})

    inputs = frozenset({"reference"})
    return Subject(name=name, units=len(pairs), group=group, inputs=inputs, identity=images.description())


def matched(pictures: Pictures, references: Pictures, pairing: str) -> list[tuple[int, int]]:
    """Indices of the pairs. Raises PixgraftError, which names a file, if the sides do not match."""
    if pairing == "order":
        if len(pictures) != len(references):
            raise PixgraftError(f"--pairs order: {len(pictures)} images but {len(references)} references")
        return [(index, index) for index in range(len(pictures))]
    sides = []
    for side in (pictures, references):
        stems: dict[str, int] = {}
        for index, name in enumerate(side.names):
            if stems.setdefault(PurePosixPath(name).stem, index) != index:
                raise PixgraftError(f"{side.path}: two files have the stem of {name}: rename one")
        sides.append(stems)
    left, right = sides
    if lone := sorted(left.keys() ^ right.keys()):
        raise PixgraftError(f"--pairs name: {lone[0]} is on one side only ({len(lone)} such): pair it or remove it")
    return [(left[stem], right[stem]) for stem in sorted(left)]
