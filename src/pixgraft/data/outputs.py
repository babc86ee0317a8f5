"""Where outputs go: never among the inputs; what they are named after; and the images that making a data set writes."""

from collections import Counter
from pathlib import Path, PurePosixPath

from torch import Tensor

from pixgraft.data.images import png_bytes
from pixgraft.errors import PixgraftError
from pixgraft.files import write_bytes


def output_folder(out: Path, *inputs: Path) -> Path:
    """Make the folder `out`, with those above it.

    Raises PixgraftError if it lies within one of the folders `inputs`, or cannot be made.
    """
    for path in inputs:
        if path.is_dir() and out.resolve().is_relative_to(path.resolve()):
            raise PixgraftError(f"{out}: is inside {path}, so outputs would become inputs: choose another folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PixgraftError(f"{out}: cannot be made: {error.strerror}: choose another folder") from error
    return out


def check_own(out: Path, mark: str) -> None:
    """PixgraftError if the folder `out` holds something that does not come from an earlier run of the same command,
    which left the file `mark`: its files would be mixed up with these."""
    try:
        found = next(iter(out.iterdir()), None) if out.is_dir() else None
    except OSError as error:
        raise PixgraftError(f"{out}: cannot be read: {error.strerror}: choose another folder") from error
    if found is not None and not (out / mark).is_file():
        raise PixgraftError(f"{out}: is there, and holds other files ({found.name}): choose another folder")


def remove_from(folder: Path, first: int) -> None:
    """Remove the images 000000.png and so on, from number `first`, that an earlier run left."""
    number = first
    while (path := folder / f"{number:06d}.png").is_file():
        path.unlink()
        number += 1


def labels(names: list[str]) -> dict[str, str]:
    """A part of a file's name for each name: its stem, or its whole path where others have that stem."""
    stems = Counter(PurePosixPath(name).stem for name in names)

    def label(name: str) -> str:
        stem = PurePosixPath(name).stem
        text = stem if stems[stem] == 1 else name.replace("/", "_")
        return text.encode(errors="ignore")[:110].decode(errors="ignore")  # a whole name may have 255 bytes

    return {name: label(name) for name in names}


def write_image(path: Path, image: Tensor) -> None:
    """Write one image, (3, H, W) or (1, H, W), uint8 or float in [-1, 1], as a PNG, and the folders it lies in.

    Raises PixgraftError, which names the path and why, if it cannot be written.
    """
    output_folder(path.parent)
    write_bytes(path, png_bytes(image, {}))
