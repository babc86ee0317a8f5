"""The training data: items by index, a stateless order over them, and batches loaded ahead.

The n-th sample is a function of (seed, n) alone. A resumed run therefore needs no loader state, and the processes of a
distributed run need not communicate to divide a step among them.
"""

import contextlib
import functools
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from pixgraft.data.conditions import ConditionKind
from pixgraft.data.degrade import Degradation
from pixgraft.data.domains import domains_of
from pixgraft.data.images import decode, fit, from_uint8, pixels
from pixgraft.data.packed import PackedSource
from pixgraft.data.pairs import ItemSource
from pixgraft.data.threads import Helpers, in_threads
from pixgraft.engine.distributed import cores
from pixgraft.engine.seeds import derive, generator
from pixgraft.errors import PixgraftError

CPU = torch.device("cpu")

CACHE_BYTES = 4 * 2**30
"""Decoded items are cached if all of them take at most this many bytes."""

MAX_ENLARGEMENT = 4
"""The largest factor by which an image is enlarged. One that needs more, such as a stray icon, has no detail at the
training size and would teach blur."""


class Item(NamedTuple):
    """One image and its condition, if it has one."""

    image: Tensor
    """uint8 (3, S, S)."""
    condition: Tensor | None = None
    """uint8 (C, S, S): class indices in one channel, or levels 0..255 in one or three; or (1, 1, 1): the domain."""


class Dataset:
    """The items of a source by index, each centre-cropped and resized to `size`, cached if all fit into memory. Those
    of a packed file are mapped into memory as they are, and never cached.

    Conditions are read from the source's condition files, which are of `kind`; or made from the images by
    `degradation`, whose factors `seed` draws; or the index of the one of `domains`, names of folders, that an image
    lies in; or absent.

    These raise a PixgraftError that names the file: a damaged file, an image or condition that would be enlarged more
    than MAX_ENLARGEMENT times, a condition of another aspect ratio than its image, and a label map of a single class.
    """

    def __init__(
        self, source: ItemSource, *, size: int, kind: ConditionKind | None = None,
        degradation: Degradation | None = None, seed: int = 0, domains: Sequence[str] = (),
    ) -> None:  # fmt: skip
        """Raises PixgraftError for fewer than 2 images, for a degradation that `size` does not allow, for an image that
        is in no domain or a domain without images, and for a packed file of another size or of other conditions."""
        if isinstance(source, PackedSource):
            source.check(size, kind)
        if len(source.names) < 2:
            raise PixgraftError(f"{source.path}: training needs at least 2 images, found {len(source.names)}")
        if degradation is not None:
            degradation.check(size)
        self.source, self.size, self.kind = source, size, kind
        self._degradation, self._seed, self._domains = degradation, seed, tuple(domains)
        self._indices = domains_of(source.path, source.names, domains) if domains else []
        read = kind.stored_channels if kind else 0
        self.condition_shape = (1, 1, 1) if domains else (3 if degradation else read, size, size)
        """Of an item's condition; without channels if there is none."""
        self.bytes = len(self) * (3 + read) * size * size
        """Of all decoded items."""
        self._cache: dict[int, Item] = {}

    def __len__(self) -> int:
        return len(self.source.names)

    def __getitem__(self, index: int) -> Item:
        """Item `index`, not mirrored; a degradation's factor is that of sample number `index`."""
        return self.sample(index, number=index, mirrored=False)

    def sample(self, index: int, *, number: int, mirrored: bool) -> Item:
        """Item `index` as sample `number` of the run, from 0: mirrored or not, degraded by that number's factor."""
        image, condition = self._decoded(index)
        if mirrored:
            image = image.flip(-1)
            condition = self.kind.mirror(condition) if self.kind and condition is not None else None
        if self._degradation is not None:
            condition = self._degradation.condition(image, self._degradation.factor(self._seed, number))
        if self._indices:
            condition = torch.full((1, 1, 1), self._indices[index], dtype=torch.uint8)
        return Item(image, condition)

    @property
    def fits(self) -> bool:
        """Whether all decoded items fit into memory."""
        return self.bytes <= CACHE_BYTES

    def _decoded(self, index: int) -> Item:
        if isinstance(self.source, PackedSource):
            return Item(*self.source.item(index))
        item = self._cache.get(index)
        if item is None:
            item = decoded(self.source, index, size=self.size, kind=self.kind)
            if self.fits:
                self._cache[index] = item
        return item

    def without(self, indices: Iterable[int]) -> "Dataset":
        """The same data set without the items of these indices."""
        return self.read_from(self.source.without(indices))

    def read_from(self, source: ItemSource) -> "Dataset":
        """The same data set with the items of another source."""
        return Dataset(
            source, size=self.size, kind=self.kind, degradation=self._degradation, seed=self._seed,
            domains=self._domains,
        )  # fmt: skip

    def check(self) -> None:
        """Decode every item now, so that none stops a run that is under way; only if all fit into memory.

        Raises PixgraftError, which names the first unusable file and counts them.
        """
        problems = list(self.problems().values()) if self.fits else []
        if problems:
            more = f" (and {len(problems) - 1:,} more: pixgraft data check lists them)" if len(problems) > 1 else ""
            raise PixgraftError(problems[0] + more)

    def problems(self) -> dict[int, str]:
        """Every unusable item by its index, with the line that says why."""
        with contextlib.closing(in_threads(self._problem, range(len(self)))) as problems:
            return {index: problem for index, problem in problems if problem}

    def _problem(self, index: int) -> str:
        try:
            self._decoded(index)
        except PixgraftError as error:
            return str(error)
        return ""

    def fingerprint(self) -> str:
        """SHA-256 of the file names in their order; it does not depend on the files' contents."""
        names: Sequence[str] = self.source.names
        if self.source.condition_names:
            names = ["\t".join(pair) for pair in zip(names, self.source.condition_names, strict=True)]
        return hashlib.sha256("\n".join(names).encode()).hexdigest()


def decoded(source: ItemSource, index: int, *, size: int, kind: ConditionKind | None = None) -> Item:
    """Item `index` of a folder or zip at this size. Raises PixgraftError if it is unusable, as `Dataset` says."""
    name = source.names[index]
    picture = decode(source.read_image(index), name)
    check_large_enough(picture, name, size)
    condition = None if kind is None else read_condition(source, index, picture.size, size=size, kind=kind)
    return Item(pixels(fit(picture, size)), condition)


def check_large_enough(picture: Image.Image, name: str, size: int) -> None:
    """Raise PixgraftError, naming the file, if its shorter side has fewer than size / MAX_ENLARGEMENT pixels."""
    if min(picture.size) * MAX_ENLARGEMENT < size:
        raise PixgraftError(
            f"{name}: {picture.width} x {picture.height} pixels are too few to train at {size}: "
            f"remove it, or give one of at least {-(-size // MAX_ENLARGEMENT)} on the shorter side"
        )


def read_condition(
    source: ItemSource, index: int, image_size: tuple[int, int] | None, *, size: int, kind: ConditionKind
) -> Tensor:
    """Condition `index` as uint8 (1 or 3, size, size); `image_size` is its image's (width, height), None if unknown.

    Raises PixgraftError if it is unusable for training, as `Dataset` says.
    """
    name = source.condition_names[index]
    picture = kind.decode(source.read_condition(index), name)
    if image_size and picture.width * image_size[1] != picture.height * image_size[0]:
        raise PixgraftError(
            f"{name}: {picture.width} x {picture.height} pixels, but {source.names[index]} has {image_size[0]} x "
            f"{image_size[1]}: crop one of them to the shape of the other"
        )
    if kind.kind != "lr":
        check_large_enough(picture, name, size)
    condition = kind.fit(picture, size)
    if kind.has_classes and condition.amin() == condition.amax():
        raise PixgraftError(f"{name}: class {int(condition.amin())} alone, which says nothing: mend or remove the pair")
    return condition


class SampleOrder:
    """The item and the mirroring of each sample: a new permutation for each pass over the data."""

    def __init__(self, count: int, *, seed: int, flip: bool) -> None:
        self.count, self.seed, self.flip = count, seed, flip

    def __getitem__(self, number: int) -> tuple[int, bool]:
        """(index into the data set, whether it is mirrored) of sample `number`, from 0."""
        epoch, place = divmod(number, self.count)
        mirrored = self.flip and derive(self.seed, "flip", number) % 2 == 1
        return int(_permutation(self.count, self.seed, epoch)[place]), mirrored


@functools.lru_cache(maxsize=4)  # the steps that are loaded at a time span few passes, and none returns to an earlier
def _permutation(count: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(count, generator=generator(seed, "order", epoch))


def collate(items: Sequence[Item]) -> tuple[Tensor, Tensor | None]:
    """Images as floats (N, 3, S, S) in [-1, 1], and their conditions, as `Item` has them, or None."""
    conditions = [item.condition for item in items if item.condition is not None]
    return from_uint8(torch.stack([item.image for item in items])), torch.stack(conditions) if conditions else None


class Loader:
    """Batches in the sequence of an order, loaded ahead of their use by a thread for each core."""

    def __init__(self, dataset: Dataset, order: SampleOrder, *, threads: int = 0, ahead: int = 2) -> None:
        """`threads` of 0: the cores of this process. `ahead` is the number of batches loaded beside the one in use."""
        self._dataset, self._order, self._ahead = dataset, order, ahead
        self._pool = Helpers(threads or cores())

    def batches(
        self, start: int, batch: int, *, rank: int = 0, ranks: int = 1, device: torch.device = CPU
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Endless batches from sample `start` on, as `collate` gives them: this rank's batch / ranks of each step.

        They are on `device`. To a CUDA device go the bytes, from pinned memory, and nothing waits for their arrival.
        """
        share = batch // ranks
        pending: list[_Loading] = []
        while True:
            while len(pending) <= self._ahead:
                pending.append(self._begun(start + rank * share, share, pinned=device.type == "cuda"))
                start += batch
            images, condition = pending.pop(0).result()
            condition = None if condition is None else condition.to(device, non_blocking=True)
            yield from_uint8(images.to(device, non_blocking=True)), condition

    def close(self) -> None:
        """End the threads, each after the item in hand."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _begun(self, first: int, count: int, *, pinned: bool) -> "_Loading":
        """The loading of `count` samples from number `first` on, which the threads begin now."""
        side, shape = self._dataset.size, self._dataset.condition_shape
        images = torch.empty(count, 3, side, side, dtype=torch.uint8, pin_memory=pinned)
        condition = torch.empty(count, *shape, dtype=torch.uint8, pin_memory=pinned) if shape[0] else None
        loading = _Loading(images, condition, [])
        loading.jobs += [self._pool.submit(self._load, first + place, loading, place) for place in range(count)]
        return loading

    def _load(self, number: int, into: "_Loading", place: int) -> None:
        """Copy sample `number` to a place of the batch."""
        index, mirrored = self._order[number]
        item = self._dataset.sample(index, number=number, mirrored=mirrored)
        into.images[place] = item.image
        if into.condition is not None and item.condition is not None:
            into.condition[place] = item.condition


@dataclass
class _Loading:
    """A batch that threads are filling."""

    images: Tensor
    """uint8 (N, 3, S, S)."""
    condition: Tensor | None
    """uint8 (N, C, S, S) or (N, 1, 1, 1)."""
    jobs: list[Future[None]]

    def result(self) -> tuple[Tensor, Tensor | None]:
        """Both, once they are filled. Raises what a thread raised."""
        for job in self.jobs:
            job.result()
        return self.images, self.condition
