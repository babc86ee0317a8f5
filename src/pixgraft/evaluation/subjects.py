"""What is measured: rows of a table, each a stream of image groups.

A group is what belongs together: the samples made for one condition, or a single image. Groups are the units that a
bootstrap draws, so that ten outputs of one target do not count as ten independent images.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from pixgraft.data.dataset import Dataset
from pixgraft.data.images import decode, fit, from_uint8, to_tensor, to_uint8
from pixgraft.data.sources import ImageSource, open_source
from pixgraft.engine.seeds import derive, generator
from pixgraft.errors import PixgraftError
from pixgraft.layers.resample import downscale
from pixgraft.pipelines.synthesis import Synthesizer
from pixgraft.pipelines.translator import Translator

KEPT_BYTES = 2**29
"""Of decoded images that are kept in memory."""


@dataclass(frozen=True)
class Group:
    """Images uint8 (K, 3, H, W), and what they are measured by, each with K images of its own or None."""

    unit: int
    images: Tensor
    reference: Tensor | None = None
    """uint8 like `images`: what each should be."""
    source: Tensor | None = None
    """uint8: whose detail each carries."""
    other: Tensor | None = None
    """uint8: an image that has no part in it."""
    lr: Tensor | None = None
    """(K, C, L, L) in 0..255: what each should shrink to."""
    seconds: Tensor | None = None
    """(K,): what each took to make."""
    changes: dict[str, Tensor] | None = None
    """By scale, (K,): how far the last step moved each one's codes."""


class Subject(Protocol):
    """One row of the table."""

    name: str
    given: frozenset[str]
    """What its groups come with, in the words of `Metric.needs`."""
    about: dict[str, Any]
    """What identifies it in a result."""
    images: int
    """How many there are, over all groups."""

    def __len__(self) -> int:
        """How many groups there are."""

    def __getitem__(self, unit: int) -> Group:
        """Group `unit`; PixgraftError if an image of it is unusable."""


class Reals(Protocol):
    """A set of images to compare with."""

    @property
    def path(self) -> Path:
        """What errors call it."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Tensor:
        """uint8 (3, H, W)."""

    def description(self) -> dict[str, Any]:
        """What identifies the images."""


class Pictures:
    """The images of a folder or zip as uint8 (3, H, W), all of one size."""

    def __init__(self, path: str | Path, *, split: str = "", size: int = 0) -> None:
        """`size` fits every image to that square; 0 takes them as they are, if they agree in size."""
        self.source: ImageSource = open_source(path, under=split)
        self.names = self.source.names
        self.path = self.source.path
        self.split, self.size = split, size
        if size < 0:
            raise PixgraftError(f"--size {size}: choose a number of pixels, or 0 to take images as they are")
        self._shape: tuple[int, int] | None = None
        # Only images that are fitted come back, as sources of several targets.
        kept = min(4096, KEPT_BYTES // (3 * size * size)) if size else 16
        self._read = lru_cache(max(kept, 16))(self._decoded)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Tensor:
        """Image `index`; PixgraftError, which names the file, if it is unusable or of another size than the first."""
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
            raise PixgraftError(
                f"{self.source.path}: mixes sizes: {name} is {image.width} x {image.height}, {self.names[0]} is "
                f"{self._shape[0]} x {self._shape[1]}: give --size N to fit them all"
            )
        return to_uint8(to_tensor(image))

    def description(self) -> dict[str, Any]:
        """What identifies the images: the path's own name, the part used, how many, and a hash of names and bytes."""
        digest = hashlib.sha256()
        for name in self.names:
            digest.update(f"{name}\0{hashlib.sha256(self.source.read(name)).hexdigest()}\n".encode())
        return {
            "name": self.source.path.name,
            "split": self.split,
            "images": len(self.names),
            "sha256": digest.hexdigest(),
            "fitted_to": self.size or None,
        }


class Single:
    """The images of a folder, each a group of its own."""

    given: frozenset[str] = frozenset()

    def __init__(self, name: str, pictures: Reals) -> None:
        self.name, self._pictures = name, pictures
        self.about, self.images = pictures.description(), len(pictures)

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, unit: int) -> Group:
        return Group(unit, self._pictures[unit].unsqueeze(0))


class Paired:
    """Images with the references that belong to them, by stem or by order."""

    given: frozenset[str] = frozenset({"reference"})

    def __init__(self, name: str, pictures: Pictures, references: Pictures, pairing: str) -> None:
        self.name, self._pictures, self._references = name, pictures, references
        self._pairs = matched(pictures, references, pairing)
        self.about, self.images = pictures.description(), len(self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, unit: int) -> Group:
        left, right = self._pairs[unit]
        image, reference = self._pictures[left], self._references[right]
        if image.shape != reference.shape:
            sizes = " and ".join(f"{each.shape[2]} x {each.shape[1]}" for each in (image, reference))
            names = f"{self._pictures.names[left]} and {self._references.names[right]}"
            raise PixgraftError(f"{names}: a pair of sizes {sizes}: give --size N to fit both")
        return Group(unit, image.unsqueeze(0), reference=reference.unsqueeze(0))


def matched(pictures: Pictures, references: Pictures, pairing: str) -> list[tuple[int, int]]:
    """Indices of the pairs; PixgraftError, which names a file, where the two sides do not match."""
    if pairing == "order":
        if len(pictures) != len(references):
            raise PixgraftError(f"--pairs order: {len(pictures)} images but {len(references)} references")
        return [(index, index) for index in range(len(pictures))]
    sides = []
    for side in (pictures, references):
        stems: dict[str, int] = {}
        for index, name in enumerate(side.names):
            if stems.setdefault(PurePosixPath(name).stem, index) != index:
                raise PixgraftError(f"{side.source.path}: two files have the stem of {name}: rename one")
        sides.append(stems)
    left, right = sides
    if lone := sorted(left.keys() ^ right.keys()):
        raise PixgraftError(f"--pairs name: {lone[0]} is on one side only ({len(lone)} such): pair it or remove it")
    return [(left[stem], right[stem]) for stem in sorted(left)]


class Grafts:
    """Each image of a set as a target, shrunk, with some others as its sources: what `make` makes of them.

    The sources of target t, and for each an image that is neither, are drawn without replacement by (seed, t).
    """

    given: frozenset[str] = frozenset({"samples", "source", "lr"})

    def __init__(
        self, name: str, pictures: Pictures, make: Callable[[Tensor, Tensor], Tensor], *,
        samples: int, seed: int, lr_size: int, lr_channels: int = 3, about: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """`make` takes sources (K, 3, S, S) and targets (K, C, L, L) in [-1, 1] and gives uint8 (K, 3, S, S)."""
        if len(pictures) < samples + 2:
            raise PixgraftError(
                f"{pictures.source.path}: {len(pictures)} images, but {samples} sources for each target and another "
                f"face take {samples + 2}: give more images or a smaller --samples"
            )
        if samples < 2:
            raise PixgraftError(f"--samples {samples}: diversity needs at least 2 for each target")
        self.name, self._pictures, self._make = name, pictures, make
        self._samples, self._seed = samples, seed
        self.about, self.images = about or {}, len(pictures) * samples
        self._lr_size, self._lr_channels = lr_size, lr_channels

    def __len__(self) -> int:
        return len(self._pictures)

    def drawn(self, unit: int) -> tuple[list[int], list[int]]:
        """The indices of the sources of target `unit`, and of the images that have no part."""
        order = torch.randperm(len(self._pictures), generator=generator(self._seed, "sources", unit)).tolist()
        order.remove(unit)
        sources, rest = order[: self._samples], order[self._samples :]
        return sources, [rest[place % len(rest)] for place in range(self._samples)]

    def target(self, unit: int) -> Tensor:
        """What target `unit` shrinks to, (C, L, L) in [-1, 1]."""
        return downscale(from_uint8(self._pictures[unit]).unsqueeze(0), self._lr_size, self._lr_channels)[0]

    def __getitem__(self, unit: int) -> Group:
        sources, others = self.drawn(unit)
        target = self.target(unit).expand(self._samples, -1, -1, -1)
        source = torch.stack([self._pictures[index] for index in sources])
        return Group(
            unit,
            self._make(from_uint8(source), target),
            source=source,
            other=torch.stack([self._pictures[index] for index in others]),
            lr=(target + 1) * 127.5,
        )


class Conditioned:
    """What a model makes of each condition of a set of pairs in the style of its own image; or a part of that."""

    given: frozenset[str] = frozenset({"reference"})

    def __init__(
        self, name: str, pairs: Dataset, synthesizer: Synthesizer, *, seed: int, part: str = "image",
        about: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """`part` is "image", "reconstruction" or "residual", which is drawn about a middle grey."""
        self.name, self._pairs, self._synthesizer = name, pairs, synthesizer
        self._seed, self._part = seed, part
        self.about, self.images = about or {}, len(pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, unit: int) -> Group:
        image, condition = self._pairs[unit]
        assert condition is not None
        code = self._synthesizer.code(from_uint8(image))
        made = self._synthesizer.sample(condition, [code], samples=1, seed=derive(self._seed, "unit", unit))
        parts = {"image": made.images, "reconstruction": made.reconstruction, "residual": made.residual}
        found = parts[self._part]
        if found is None:
            raise PixgraftError(f"{self._synthesizer.model.name}: has no {self._part}: choose a model with one")
        pixels = found if found.dtype == torch.uint8 else to_uint8(found)
        return Group(unit, pixels, reference=image.unsqueeze(0))


class References:
    """The images of pairs, as a set of reals."""

    def __init__(self, pairs: Dataset) -> None:
        self._pairs, self.path = pairs, pairs.source.path

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> Tensor:
        return self._pairs[index][0]

    def description(self) -> dict[str, Any]:
        """As `Pictures.description`, of images and conditions."""
        digest = hashlib.sha256()
        source = self._pairs.source
        for index, (name, condition) in enumerate(zip(source.names, source.condition_names, strict=True)):
            for label, data in ((name, source.read_image(index)), (condition, source.read_condition(index))):
                digest.update(f"{label}\0{hashlib.sha256(data).hexdigest()}\n".encode())
        return {
            "name": source.path.name,
            "images": len(self),
            "sha256": digest.hexdigest(),
            "fitted_to": self._pairs.size,
        }


def by_model(translator: Translator, *, projected: bool) -> Callable[[Tensor, Tensor], Tensor]:
    """What a trained model makes of sources and targets."""

    def make(sources: Tensor, targets: Tensor) -> Tensor:
        made = translator.batch(list(zip(sources, targets, strict=True)), projected=projected)
        return torch.stack([each.pixels for each in made])

    return make


def by_bicubic(sources: Tensor, targets: Tensor) -> Tensor:
    """The floor that knows only the target: its bicubic enlargement."""
    coarse = targets.expand(-1, 3, -1, -1)
    return to_uint8(F.interpolate(coarse, size=sources.shape[-2:], mode="bicubic", align_corners=False))


def by_source(sources: Tensor, targets: Tensor) -> Tensor:
    """The floor that knows only the source: itself."""
    return to_uint8(sources)


def shared_out(count: int, rank: int, ranks: int) -> Iterator[int]:
    """The units that one of several processes takes."""
    return iter(range(rank, count, ranks))
