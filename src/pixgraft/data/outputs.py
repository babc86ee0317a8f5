"""Where outputs go: never among the inputs; what they are named after; and the images that making a data set writes."""

import json
from collections import Counter
from collections.abc import Container, Iterable
from pathlib import Path, PurePosixPath

from torch import Tensor

from pixgraft.data.images import png_bytes
from pixgraft.errors import PixgraftError
from pixgraft.files import write_bytes


def check_outside(out: Path, *inputs: Path) -> None:
    """PixgraftError if the folder `out` lies within one of the folders `inputs`."""
    for path in inputs:
        if path.is_dir() and out.resolve().is_relative_to(path.resolve()):
            raise PixgraftError(f"{out}: is inside {path}, so outputs would become inputs: choose another folder")


def check_spared(inputs: Iterable[Path], outputs: Iterable[Path]) -> None:
    """PixgraftError if one of the files `inputs` would be replaced by one of `outputs`."""
    replaced = {path.resolve() for path in outputs}
    for path in inputs:
        if path.resolve() in replaced:
            raise PixgraftError(f"{path}: an output would replace it: choose another folder for the outputs")


def output_folder(out: Path, *inputs: Path) -> Path:
    """Make the folder `out`, with those above it.

    Raises PixgraftError if it lies within one of the folders `inputs`, or cannot be made.
    """
    check_outside(out, *inputs)
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


def remove_earlier(out: Path, label: str, written: Container[str], inputs: Iterable[Path]) -> None:
    """Remove what an earlier run wrote for `label`: the files that its report LABEL.json lists, and then the report.

    Left alone are files that this run has as `inputs`, and those named in `written`, which it writes for any label.
    Raises PixgraftError if a file cannot be removed.
    """
    read = {path.resolve() for path in inputs}
    path = out / f"{label}.json"
    try:
        report = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return
    if not isinstance(report, dict) or "weights_sha256" not in report:  # not ours
        return
    listed = [report.get("strip"), *(outputs if isinstance(outputs := report.get("outputs"), list) else ())]
    for name in [part for each in listed for part in (each.values() if isinstance(each, dict) else [each])]:
        # A report may have been edited: no more than files beside it that are named like its own.
        ours = isinstance(name, str) and name.startswith(label) and name.endswith((".png", ".safetensors"))
        beside = ours and Path(name).name == name and "\0" not in name
        if beside and name not in written and (out / name).resolve() not in read:
            _remove(out / name)
    _remove(path)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise PixgraftError(f"{path}: of an earlier run, cannot be removed: {error.strerror}: remove it") from error


def labels(names: list[str]) -> dict[str, str]:
    """A part of a file's name for each name: its stem, or its whole path where others have that stem; cut if it is very
    long. No two are the same, not even where upper and lower case are one: the later ones get a number."""
    stems = Counter(PurePosixPath(name).stem for name in names)

    def text(name: str) -> str:
        stem = PurePosixPath(name).stem
        whole = stem if stems[stem] == 1 else name.replace("/", "_")
        return whole.encode(errors="ignore")[:110].decode(errors="ignore")  # a whole name may have 255 bytes

    found = {name: text(name) for name in names}
    taken = {label.casefold() for label in found.values()}
    times: Counter[str] = Counter()
    for name, label in found.items():
        key = label.casefold()
        times[key] += 1
        if times[key] > 1:
            while (numbered := f"{label}_{times[key]}").casefold() in taken:
                times[key] += 1
            taken.add(numbered.casefold())
            found[name] = numbered
    return found


def write_image(path: Path, image: Tensor) -> None:
    """Write one image, (3, H, W) or (1, H, W), uint8 or float in [-1, 1], as a PNG, and the folders it lies in.

    Raises PixgraftError, which names the path and why, if it cannot be written.
    """
    output_folder(path.parent)
    write_bytes(path, png_bytes(image, {}))
