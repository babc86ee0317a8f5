"""Training images in a stateless order: what is seen n-th is a function of (seed, n) alone.

A resume therefore needs no loader state, and processes need not talk to share out a step.
"""

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Generic, TypeVar

import torch
from PIL import Image
from torch import Tensor

from pixgraft.data.images import decode, fit, from_uint8, to_tensor, to_uint8
from pixgraft.data.sources import ImageSource
from pixgraft.engine.seeds import derive, generator
from pixgraft.errors import PixgraftError

Item = TypeVar("Item")

CACHE_BYTES = 4 * 2**30
"""Decoded images are kept in memory up to this many bytes."""

MAX_ENLARGEMENT = 4
"""Times that a small image is enlarged at most. One that needs more, such as an icon that strayed into the folder, has
no detail at the size trained at: it would teach blur."""


class Items(ABC, Generic[Item]):
    """What every data set is: items by index, each decoded once if all of them fit into memory."""

    def __init__(self, path: Path, names: Sequence[str], *, item_bytes: int) -> None:
        if len(names) < 2:
            raise PixgraftError(f"{path}: training needs at least 2 images, found {len(names)}")
        self._names = names
        self._caches = len(names) * item_bytes <= CACHE_BYTES
        self._cache: dict[int, Item] = {}

    @abstractmethod
    def _decoded(self, index: int) -> Item:
        """Item `index`, read and decoded. Raises PixgraftError, which names the file, if it is unusable."""

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> Item:
        item = self._cache.get(index)
        if item is None:
            item = self._decoded(index)
            if self._caches:
                self._cache[index] = item
        return item

    def check(self) -> None:
        """Decode every item now, so that none stops a run that is under way; only if all are kept in memory then.

        Raises PixgraftError, which names the first unusable files and counts them.
        """
        if not self._caches:
            return
        problems = list(self.problems().values())
        if problems:
            more = f" (and {len(problems) - 1:,} more: pixgraft data check lists them)" if len(problems) > 1 else ""
            raise PixgraftError(problems[0] + more)

    def problems(self) -> dict[int, str]:
        """Every unusable item by its index, with the line that says why."""
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            found = enumerate(pool.map(self._problem, range(len(self))))
            return {index: problem for index, problem in found if problem}

    def _problem(self, index: int) -> str:
        try:
            self[index]
        except PixgraftError as error:
            return str(error)
        return ""

    def fingerprint(self) -> str:
        """SHA-256 of the names in their order: the data set, but for the files' contents."""
        return hashlib.sha256("\n".join(self._names).encode()).hexdigest()


class Dataset(Items[Tensor]):
    """The images of a source, each centre-cropped and resized to (3, size, size) uint8.

    An image that is no sound one, or whose shorter side has fewer than size / MAX_ENLARGEMENT pixels, raises a
    PixgraftError that names the file.
    """

    def __init__(self, source: ImageSource, *, size: int) -> None:
        super().__init__(source.path, source.names, item_bytes=3 * size * size)
        self.source = source
        self.size = size

    def _decoded(self, index: int) -> Tensor:
        name = self.source.names[index]
        picture = decode(self.source.read(name), name)
        check_large_enough(picture, name, self.size)
        return to_uint8(to_tensor(fit(picture, self.size)))


def check_large_enough(picture: Image.Image, name: str, size: int) -> None:
    """Raise PixgraftError, naming the file, if its shorter side has fewer than size / MAX_ENLARGEMENT pixels."""
    if min(picture.size) * MAX_ENLARGEMENT < size:
        raise PixgraftError(
            f"{name}: {picture.width} x {picture.height} pixels are too few to train at {size}: "
            f"remove it, or give one of at least {-(-size // MAX_ENLARGEMENT)} on the shorter side"
        )


class Order:
    """Which image, mirrored or not, is the n-th one seen: a new permutation for each pass over the data."""

    def __init__(self, count: int, *, seed: int, flip: bool) -> None:
        self.count, self.seed, self.flip = count, seed, flip
        self._permutations: dict[int, Tensor] = {}

    def __getitem__(self, number: int) -> tuple[int, bool]:
        """(index into the data set, whether it is mirrored) of image seen `number`, from 0."""
        round_, place = divmod(number, self.count)
        permutation = self._permutations.get(round_)
        if permutation is None:
            permutation = torch.randperm(self.count, generator=generator(self.seed, "order", round_))
            # A step spans two passes at most, and later ones never return to an earlier.
            self._permutations = {
                key: value for key, value in self._permutations.items() if key >= round_ - 1
            } | {round_: permutation}
        mirrored = self.flip and derive(self.seed, "flip", number) % 2 == 1
        return int(permutation[place]), mirrored


class Ahead(Generic[Item]):
    """Items in the sequence in which they are seen, made ahead of their use by a few threads.

    `load` gives the item seen n-th, from 0.
    """

    def __init__(self, load: Callable[[int], Item], *, threads: int, ahead: int) -> None:
        self._load, self._ahead = load, ahead
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")

    def shares(self, start: int, batch: int, *, rank: int, ranks: int) -> Iterator[list[Item]]:
        """Endless lists of batch / ranks items from the one seen `start`-th on: this rank's share of each step."""
        share = batch // ranks
        pending: list[list[Future[Item]]] = []
        while True:
            while len(pending) <= self._ahead:
                first = start + rank * share
                pending.append([self._pool.submit(self._load, n) for n in range(first, first + share)])
                start += batch
            yield [future.result() for future in pending.pop(0)]

    def close(self) -> None:
        """Let the threads go, once each has finished the item that it is at: the process may be about to end."""
        self._pool.shutdown(wait=True, cancel_futures=True)


class Loader:
    """Batches in the order's sequence, decoded ahead of their use by a few threads."""

    def __init__(self, dataset: Dataset, order: Order, *, threads: int = 2, ahead: int = 2) -> None:
        self._dataset, self._order = dataset, order
        self._ahead = Ahead(self._load, threads=threads, ahead=ahead)

    def batches(self, start: int, batch: int, *, rank: int = 0, ranks: int = 1) -> Iterator[Tensor]:
        """Endless float batches (batch / ranks, 3, S, S) from image `start` on: this rank's share of each step."""
        for images in self._ahead.shares(start, batch, rank=rank, ranks=ranks):
            yield from_uint8(torch.stack(images))

    def close(self) -> None:
        """Let the threads go."""
        self._ahead.close()

    def _load(self, number: int) -> Tensor:
        index, mirrored = self._order[number]
        image = self._dataset[index]
        return image.flip(-1) if mirrored else image
