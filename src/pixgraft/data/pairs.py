"""The files of a data set: images alone, or images matched with their conditions by name.

An image and a condition match if their paths differ only in one folder's name, at any depth, and in the suffix:
train/images/a.jpg and train/masks/a.png, or images/train/a.jpg and masks/train/a.png.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pixgraft.data.frame import Frame, find_frame
from pixgraft.data.sources import ImageSource, open_source
from pixgraft.data.splits import Split
from pixgraft.errors import PixgraftError


@dataclass(frozen=True)
class UnpairedFile:
    """A file that belongs to no pair."""

    name: str
    problem: str
    """One line with the mend, without the name."""


class ItemSource:
    """Image files, each with its condition file if there are conditions; built by `open_images` and `open_pairs`."""

    def __init__(
        self, source: ImageSource, names: Sequence[str], condition_names: Sequence[str] = (),
        unpaired: Sequence[UnpairedFile] = (),
    ) -> None:  # fmt: skip
        self.path = source.path
        """The folder or zip of the images, as errors name the data."""
        self.names = list(names)
        """The images, sorted, relative to the folder's or zip's root."""
        self.condition_names = list(condition_names)
        """Their conditions, in the same order; empty for images alone."""
        self.unpaired = list(unpaired)
        """The image files without a counterpart, or with several."""
        self.skipped = source.skipped
        """The other visible files, sorted: their suffix is not an image's."""
        self.files = source
        """The folder or zip that is read."""

    def without(self, indices: Iterable[int]) -> "ItemSource":
        """The same source without the items of these indices."""
        excluded = set(indices)
        names, condition_names = (
            [name for index, name in enumerate(each) if index not in excluded]
            for each in (self.names, self.condition_names)
        )
        return ItemSource(self.files, names, condition_names, self.unpaired)

    def read_image(self, index: int) -> bytes:
        """The image file's bytes. Raises PixgraftError, which names the file, if it cannot be read."""
        return self.files.read(self.names[index])

    def read_condition(self, index: int) -> bytes:
        """The condition file's bytes; errors as in `read_image`."""
        return self.files.read(self.condition_names[index])

    def frame(self) -> Frame | None:
        """The frame of the images, if it is known. Raises PixgraftError if the file beside them is damaged."""
        return find_frame(self.path, self.names)

    def close(self) -> None:
        """Close the files that are held open."""
        self.files.close()


def open_images(path: str | Path, *, under: str = "") -> ItemSource:
    """Images alone, as `sources.open_source` finds them."""
    images = open_source(path, under=under)
    return ItemSource(images, images.names)


def open_pairs(
    path: str | Path, *, images: str = "images", conditions: str = "masks", under: str = "", skip_bad: bool = False
) -> ItemSource:
    """The pairs in a folder or zip with a folder named `images` and one named `conditions`, at any depth.

    `under` selects the files beneath one folder, such as "train", which may be above or below the two, or those of a
    list, as `Split` says.

    Raises PixgraftError if nothing matches; and, unless `skip_bad`, if an image has no condition, a condition no image,
    or a file several counterparts: it names the first such file and counts them. With `skip_bad` these are `unpaired`.
    """
    one, two = images.strip("/"), conditions.strip("/")
    if one == two:
        raise PixgraftError(f"{path}: images and conditions cannot both be in {one}: name two folders")
    source, split = open_source(path), Split(under)
    pictures = _beneath(source, one, two, split, "images")
    split.check(source.path, pictures)
    pairs, unpaired = _matched(pictures, _beneath(source, two, one, split, "conditions"))
    if not pairs:
        raise PixgraftError(
            f"{path}: no image and condition share a name but for the suffix, such as {unpaired[0].name}: rename them"
        )
    if unpaired and not skip_bad:
        more = f" (and {len(unpaired) - 1:,} more: pixgraft data check lists them)" if len(unpaired) > 1 else ""
        raise PixgraftError(f"{path}: {unpaired[0].name}: {unpaired[0].problem}{more}")
    names, condition_names = zip(*pairs, strict=True)
    return ItemSource(source, names, condition_names, unpaired)


KeyedNames = dict[str, list[str]]
"""File names by the part of the path that an image and its condition share."""


def pair_key(name: str, folder: str) -> str:
    """What an image and its condition share: the path without the suffix and without `folder`, wherever it is in it."""
    above, _, below = f"/{name}".partition(f"/{folder.strip('/')}/")
    return str(PurePosixPath(f"{above}/{below}".lstrip("/")).with_suffix(""))


def _beneath(source: ImageSource, folder: str, other: str, split: Split, option: str) -> KeyedNames:
    """The names in `folder` that are in `split` too, whose folder may be above or below it.

    A name's key is its path without `folder` and the suffix. A name that has `other` among its folders too belongs to
    the one that comes first. Raises PixgraftError, which names `option`, if there are none.
    """
    keyed: KeyedNames = {}
    for name in source.names:
        above, between, _ = f"/{name}".partition(f"/{folder}/")
        key = pair_key(name, folder)
        if between and f"/{other}/" not in f"{above}/" and split.holds(key):
            keyed.setdefault(key, []).append(name)
    if not keyed:
        where = f"a folder {folder}/" + (f" with {split.prefix} above or below it" if split.prefix else "")
        folders = sorted({f"{PurePosixPath(name).parent}/" for name in source.names})
        options = f"data.{option} in training, else --{option}" + ("; or another --split" if split.text else "")
        problem = f"no images in {where} (it has {', '.join(folders[:5])})"
        raise PixgraftError(f"{source.path}: {problem}: put them there, or name their folder ({options})")
    return keyed


def _matched(images: KeyedNames, conditions: KeyedNames) -> tuple[list[tuple[str, str]], list[UnpairedFile]]:
    """The pairs, sorted by the image's name, and the files that belong to none."""
    pairs: list[tuple[str, str]] = []
    unpaired: list[UnpairedFile] = []
    for key in images.keys() | conditions.keys():
        left, right = images.get(key, []), conditions.get(key, [])
        if len(left) == len(right) == 1:
            pairs.append((left[0], right[0]))
        else:
            unpaired += [UnpairedFile(name, _reason(name, "image", left, "condition", right)) for name in left]
            unpaired += [UnpairedFile(name, _reason(name, "condition", right, "image", left)) for name in right]
    return sorted(pairs), sorted(unpaired, key=lambda file: file.name)


def _reason(name: str, what: str, rivals: list[str], other: str, counterparts: list[str]) -> str:
    """Why `name` is in no pair, and the mend. `rivals` are the files of its kind with its key, itself among them."""
    if len(rivals) > 1:
        return f"the same stem as {', '.join(each for each in rivals if each != name)}; remove or rename all but one"
    if counterparts:
        listed = ", ".join(counterparts)
        return f"{what} with {len(counterparts)} {other}s of its stem ({listed}); remove or rename all but one"
    return f"{what} without {other}; add the {other} or remove the {what}"
