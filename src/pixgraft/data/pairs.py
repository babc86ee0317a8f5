"""Images with their conditions: matched files, the data set of such pairs, and their batches.

A pair is an image and a condition whose paths differ only in one folder's name and in the suffix, wherever that folder
stands: train/images/a.jpg and train/masks/a.png, or images/train/a.jpg and masks/train/a.png.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

import torch
from torch import Tensor

from pixgraft.data.conditions import ConditionKind
from pixgraft.data.dataset import Ahead, Items, Order, check_large_enough
from pixgraft.data.images import decode, fit, from_uint8, to_tensor, to_uint8
from pixgraft.data.sources import ImageSource, open_source
from pixgraft.errors import PixgraftError


@dataclass(frozen=True)
class LeftOut:
    """A file that belongs to no pair."""

    name: str
    problem: str
    """One line with the mend, without the name."""


class PairedSource:
    """Images and conditions that belong together by their names; built by `open_pairs`."""

    def __init__(
        self,
        images: ImageSource,
        conditions: ImageSource,
        pairs: list[tuple[str, str]],
        left_out: list[LeftOut],
    ) -> None:
        self.path = images.path
        """What errors call the data."""
        self.names = [image for image, _ in pairs]
        """The images of the pairs, sorted, relative to their folder's or zip's root."""
        self.condition_names = [condition for _, condition in pairs]
        """The conditions of the pairs, in the same order."""
        self.left_out = left_out
        """The image files without a counterpart, and those of which several would fit."""
        self.skipped = sorted({*images.skipped, *conditions.skipped})
        """The other visible files: their suffix is none of an image."""
        self._images, self._conditions = images, conditions

    def shown(self, index: int) -> tuple[str, str]:
        """What errors call the image and the condition of a pair."""
        image, condition = self.names[index], self.condition_names[index]
        if self._conditions is not self._images:
            condition = f"{self._conditions.path.name}/{condition}"  # it may have the image's name
        return image, condition

    def without(self, indices: Iterable[int]) -> "PairedSource":
        """The same without the pairs of these indices."""
        gone = set(indices)
        every = enumerate(zip(self.names, self.condition_names, strict=True))
        kept = [pair for index, pair in every if index not in gone]
        return PairedSource(self._images, self._conditions, kept, self.left_out)

    def read_image(self, index: int) -> bytes:
        """The image file's bytes. Raises PixgraftError, which names the file, if it cannot be read."""
        return self._images.read(self.names[index])

    def read_condition(self, index: int) -> bytes:
        """The condition file's bytes. Raises PixgraftError, which names the file, if it cannot be read."""
        return self._conditions.read(self.condition_names[index])

    def close(self) -> None:
        """Give back what reading holds open."""
        self._images.close()
        self._conditions.close()


def open_pairs(
    path: str | Path,
    *,
    conditions_path: str | Path | None = None,
    images: str = "images",
    conditions: str = "masks",
    under: str = "",
    skip_bad: bool = False,
) -> PairedSource:
    """The pairs in a folder or zip with a folder named `images` and one named `conditions`, at any depth.

    With `conditions_path` the images are all those of `path` and the conditions all those there; both are folders or
    zips. `under` keeps what lies beneath one folder, such as "train", which may stand above or below the two.

    Raises PixgraftError if there is nothing to match; and, unless `skip_bad`, if an image has no condition, a condition
    no image, or several files would fit: it names the first and counts them. With `skip_bad` these are `left_out`.
    """
    if conditions_path is None:
        one, two = images.strip("/"), conditions.strip("/")
        if one == two:
            raise PixgraftError(f"{path}: images and conditions cannot both be in {one}: name two folders")
        first = second = open_source(path)
        keyed = _beneath(first, one, two, under, "images"), _beneath(second, two, one, under, "conditions")
    else:
        first, second = open_source(path, under=under), open_source(conditions_path, under=under)
        keyed = _by_stem(first.names), _by_stem(second.names)
        if not keyed[0].keys() & keyed[1].keys():
            keyed = _without_root(keyed[0]), _without_root(keyed[1])
    pairs, left_out = _matched(*keyed)
    if not pairs:
        raise PixgraftError(
            f"{path}: no image and condition share a name but for the suffix, such as {left_out[0].name}: rename them"
        )
    if left_out and not skip_bad:
        more = f" (and {len(left_out) - 1:,} more: pixgraft data check lists them)" if len(left_out) > 1 else ""
        raise PixgraftError(f"{path}: {left_out[0].name}: {left_out[0].problem}{more}")
    return PairedSource(first, second, pairs, left_out)


Keyed = dict[str, list[str]]
"""File names by what image and condition have in common."""


def _keyed(names: Iterable[str], folder: str, other: str) -> Keyed:
    """The names that have `folder` among their folders, by their path without it and without the suffix.

    A name that has `other` too belongs to the one that comes first.
    """
    found: Keyed = {}
    for name in names:
        above, between, below = f"/{name}".partition(f"/{folder}/")
        if between and f"/{other}/" not in f"{above}/":
            found.setdefault(_stem(f"{above}/{below}".lstrip("/")), []).append(name)
    return found


def _stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))


def _beneath(source: ImageSource, folder: str, other: str, under: str, option: str) -> Keyed:
    """The names in `folder` that lie beneath `under` too, which may stand above or below it; `option` names it."""
    inside = under.strip("/").removeprefix("./")
    prefix = f"{inside}/" if inside not in ("", ".") else ""
    keyed = _keyed(source.names, folder, other)
    found = {key: names for key, names in keyed.items() if key.startswith(prefix)}
    if not found:
        where = f"a folder {folder}/" + (f" with {prefix} above or below it" if prefix else "")
        folders = sorted({f"{PurePosixPath(name).parent}/" for name in source.names})
        options = f"data.{option} in training, else --{option}" + ("; or another --split" if prefix else "")
        problem = f"no images in {where} (it has {', '.join(folders[:5])})"
        raise PixgraftError(f"{source.path}: {problem}: put them there, or name their folder ({options})")
    return found


def _by_stem(names: Iterable[str]) -> Keyed:
    found: Keyed = {}
    for name in names:
        found.setdefault(_stem(name), []).append(name)
    return found


def _without_root(keyed: Keyed) -> Keyed:
    """Keys without the folder that all of them lie in, such as the one that a zip was made of."""
    roots = {key.partition("/")[0] for key in keyed}
    return {key.partition("/")[2] or key: names for key, names in keyed.items()} if len(roots) == 1 else keyed


def _matched(images: Keyed, conditions: Keyed) -> tuple[list[tuple[str, str]], list[LeftOut]]:
    """The pairs, sorted by the image's name, and what belongs to none."""
    pairs: list[tuple[str, str]] = []
    left_out: list[LeftOut] = []
    for key in images.keys() | conditions.keys():
        own, others = images.get(key, []), conditions.get(key, [])
        if len(own) == len(others) == 1:
            pairs.append((own[0], others[0]))
        else:
            left_out += [LeftOut(name, _reason(name, "image", own, "condition", others)) for name in own]
            left_out += [LeftOut(name, _reason(name, "condition", others, "image", own)) for name in others]
    return sorted(pairs), sorted(left_out, key=lambda each: each.name)


def _reason(name: str, what: str, own: list[str], other: str, others: list[str]) -> str:
    """Why `name` of the files `own` of a key is in no pair, its counterparts being `others`, and the mend."""
    if len(own) > 1:
        return f"the same stem as {', '.join(each for each in own if each != name)}; remove or rename all but one"
    if others:
        return f"{what} with {len(others)} {other}s of its stem ({', '.join(others)}); remove or rename all but one"
    return f"{what} without {other}; add the {other} or remove the {what}"


class PairedDataset(Items[tuple[Tensor, Tensor]]):
    """The pairs of a source: an image uint8 (3, size, size) and its condition uint8 (1 or 3, size, size).

    A file that is no sound one, too small or not of its counterpart's shape, and a label map of one class alone, raise
    a PixgraftError that names it.
    """

    def __init__(self, source: PairedSource, *, size: int, kind: ConditionKind) -> None:
        pairs = zip(source.names, source.condition_names, strict=True)
        channels = 3 + kind.stored_channels
        super().__init__(source.path, ["\t".join(pair) for pair in pairs], item_bytes=channels * size * size)
        self.source, self.size, self.kind = source, size, kind

    def _decoded(self, index: int) -> tuple[Tensor, Tensor]:
        name, _ = self.source.shown(index)
        picture = decode(self.source.read_image(index), name)
        check_large_enough(picture, name, self.size)
        condition = read_condition(self.source, index, picture.size, size=self.size, kind=self.kind)
        return to_uint8(to_tensor(fit(picture, self.size))), condition

    def seen(self, index: int, *, number: int, mirrored: bool) -> tuple[Tensor, Tensor]:
        """Pair `index` as the one seen `number`-th, from 0, both mirrored or neither."""
        image, condition = self[index]
        return (image.flip(-1), self.kind.mirror(condition)) if mirrored else (image, condition)


def read_condition(
    source: PairedSource, index: int, image_size: tuple[int, int] | None, *, size: int, kind: ConditionKind
) -> Tensor:
    """The condition of a pair, as uint8 (1 or 3, size, size), its image having `image_size` (width, height) if known.

    Raises PixgraftError if it is unusable for training, as `PairedDataset` says.
    """
    image_name, name = source.shown(index)
    picture = kind.decode(source.read_condition(index), name)
    if image_size and picture.width * image_size[1] != picture.height * image_size[0]:
        raise PixgraftError(
            f"{name}: {picture.width} x {picture.height} pixels, but {image_name} has {image_size[0]} x "
            f"{image_size[1]}: crop one of them to the shape of the other"
        )
    if kind.kind != "lr":
        check_large_enough(picture, name, size)
    condition = kind.fit(picture, size)
    if kind.has_classes and condition.amin() == condition.amax():
        raise PixgraftError(f"{name}: class {int(condition.amin())} alone, which says nothing: mend or remove the pair")
    return condition


class Pairs(Protocol):
    """A data set of pairs: `PairedDataset`, or `degrade.DegradedDataset` which makes the conditions."""

    def __len__(self) -> int: ...

    def seen(self, index: int, *, number: int, mirrored: bool) -> tuple[Tensor, Tensor]:
        """The image and the condition of pair `index`, seen `number`-th; uint8."""


class PairedLoader:
    """As `dataset.Loader`, of pairs."""

    def __init__(self, pairs: Pairs, order: Order, *, threads: int = 2, ahead: int = 2) -> None:
        self._pairs, self._order = pairs, order
        self._ahead = Ahead(self._load, threads=threads, ahead=ahead)

    def batches(self, start: int, batch: int, *, rank: int = 0, ranks: int = 1) -> Iterator[tuple[Tensor, Tensor]]:
        """Endless batches from pair `start` on: this rank's share of each step, N = batch / ranks.

        Each is images as floats in [-1, 1] (N, 3, S, S) and their conditions as kept, uint8 (N, 1 or 3, S, S).
        """
        for share in self._ahead.shares(start, batch, rank=rank, ranks=ranks):
            images, conditions = zip(*share, strict=True)
            yield from_uint8(torch.stack(images)), torch.stack(conditions)

    def close(self) -> None:
        """Let the threads go."""
        self._ahead.close()

    def _load(self, number: int) -> tuple[Tensor, Tensor]:
        index, mirrored = self._order[number]
        return self._pairs.seen(index, number=number, mirrored=mirrored)
